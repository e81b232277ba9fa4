//! A provider says by SCIM who its people are: who left is cut off when it says so.

use std::time::Duration;

use ringfence_e2e::{Answer, Live, Node, Office, Script};
use ringfence_lab::{Reach, wait_until};
use serde_json::{Value, json};

use crate::SOON;

/// The provider's SCIM client, and what it speaks to.
struct Directory {
    office: Office,
    db: Node,
    token: String,
    /// SCIM ids.
    ada: String,
    dba: String,
}

impl Directory {
    /// Ada is provisioned, in the group `dba`, which reaches the database.
    fn open(name: &str) -> Self {
        let mut office = Office::open(name, Script::Honest).unwrap();
        let db = office.mesh.node("db", &["role=db"]).unwrap();
        office.mesh.apply_and_wait(LEDGER).unwrap();
        let token = office
            .administer(&["scim", "token", "corp"])
            .unwrap()
            .trim()
            .to_owned();
        let mut directory = Self {
            office,
            db,
            token,
            ada: String::new(),
            dba: String::new(),
        };
        let ada = json!({ "userName": "ada@example.com", "externalId": "ada", "active": true });
        directory.ada = directory.make("/Users", &ada);
        let dba = json!({ "displayName": "dba", "members": [{ "value": directory.ada }] });
        directory.dba = directory.make("/Groups", &dba);
        directory
    }

    fn say(&self, method: &str, path: &str, body: &Value) -> Answer {
        let api = self.office.mesh.api().unwrap();
        let headers = format!(
            "Host: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/scim+json\r\n",
            self.office.mesh.address(),
            self.token
        );
        let path = format!("/scim/v2{path}");
        api.raw(method, &path, &headers, body.to_string().as_bytes())
            .unwrap()
    }

    fn make(&self, path: &str, body: &Value) -> String {
        let made = self.say("POST", path, body).ok().unwrap().json().unwrap();
        made["id"].as_str().unwrap().to_owned()
    }

    fn patch(&self, path: &str, operation: &Value) -> Answer {
        let body = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
            "Operations": [operation],
        });
        self.say("PATCH", path, &body).ok().unwrap()
    }

    /// An open connection of ada's to the database.
    fn live(&self) -> Live {
        let at = self.db.overlay("ledger").unwrap();
        let server = self.db.host().serve(at.v4(5432)).unwrap();
        let laptop = self.office.laptop.host();
        wait_until(SOON, "the database to be reached", || {
            laptop.try_tcp(at.v4(5432), Duration::from_secs(1)) == Reach::Open
        })
        .unwrap();
        drop(server);
        Live::open(laptop, self.db.host(), at.v4.into(), 5432).unwrap()
    }

    /// Both ends of a connection are reset soon after the answer.
    fn assert_cut(live: Live, answer: &Answer, what: &str) {
        let (client, server) = live.wait_cut(SOON).unwrap();
        for (end, cut) in [("client", client), ("server", server)] {
            let late = cut.at.saturating_duration_since(answer.at);
            assert!(cut.is_reset(), "{what}: {end}: {cut:?}");
            assert!(late <= CUT_MAX, "{what}: {end} was told after {late:?}");
        }
    }
}

#[test]
fn who_is_deactivated_by_scim_loses_live_connections_and_does_not_log_in_again() {
    let directory = Directory::open("people-scim-user");
    let office = &directory.office;
    office.log_in(&[], None).unwrap();
    let live = directory.live();
    let ada = format!("/Users/{}", directory.ada);

    let off = json!({ "op": "replace", "value": { "active": false } });
    let answer = directory.patch(&ada, &off);

    Directory::assert_cut(live, &answer, "deactivated by SCIM");
    assert_eq!(office.whoami().unwrap(), None);
    let login = office.begin(&["--no-browser"]).unwrap();
    office.browse(&["login", &login.url, "ada", "lovelace"]).unwrap();
    let refusal = login.refusal().unwrap();
    assert!(refusal.contains("deactivated"), "{refusal}");

    directory.patch(
        &ada,
        &json!({ "op": "Replace", "path": "active", "value": "True" }),
    );
    office.log_in(&[], None).unwrap();
    let live = directory.live();
    let answer = directory.say("DELETE", &ada, &Value::Null).ok().unwrap();
    Directory::assert_cut(live, &answer, "removed by SCIM");
    let audit = office.administer(&["audit"]).unwrap();
    assert!(audit.contains("corp deactivated ada@example.com"), "{audit}");
}

#[test]
fn groups_of_the_directory_open_and_close_while_a_person_is_logged_in() {
    let directory = Directory::open("people-scim-group");
    let session = directory.office.log_in(&[], None).unwrap();
    // Of the groups in the token (`dba` and `staff`) none counts.
    assert_eq!(session["groups"], json!(["dba"]));
    let dba = format!("/Groups/{}", directory.dba);
    let live = directory.live();

    let leave = json!({ "op": "remove", "path": format!("members[value eq \"{}\"]", directory.ada) });
    let answer = directory.patch(&dba, &leave);

    Directory::assert_cut(live, &answer, "out of the group by SCIM");
    let groups = directory.office.whoami().unwrap().unwrap()["groups"].clone();
    assert_eq!(groups, json!([]), "still logged in");
    let join = json!({ "op": "Add", "path": "members", "value": [{ "value": directory.ada }] });
    directory.patch(&dba, &join);
    directory.live().exchange(SOON).unwrap();
}

/// Database administrators reach the database.
const LEDGER: &str = r#"
[perimeter]
name = "ledger"
owners = ["alice@example.com"]
[members]
db = { nodes = "role=db" }
dba = { users = "group=dba" }
[[allow]]
from = "dba"
to = "db"
ports = ["tcp/5432"]
"#;
/// As for every cut that an administrator's word makes (`behaviour/stage.rs`).
const CUT_MAX: Duration = Duration::from_millis(200);
