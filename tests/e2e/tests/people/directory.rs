//! A provider says by SCIM who its people are: who left is cut off when it says so.

use std::time::Duration;

use ringfence_e2e::{Answer, Live, Node, Office, Scim, Script};
use ringfence_lab::{Reach, wait_until};
use serde_json::{Value, json};

use crate::{LEDGER, SOON};

/// The provider's SCIM client, and what it speaks to.
struct Directory {
    office: Office,
    db: Node,
    scim: Scim,
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
        let scim = Scim::open(&office.mesh, "corp").unwrap();
        let mut directory = Self {
            office,
            db,
            scim,
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
        self.scim.say(&self.office.mesh, method, path, body).unwrap()
    }

    fn make(&self, path: &str, body: &Value) -> String {
        self.scim.make(&self.office.mesh, path, body).unwrap()
    }

    fn patch(&self, path: &str, operation: &Value) -> Answer {
        self.scim.patch(&self.office.mesh, path, operation).unwrap()
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

    live.cut_by(&answer).expect("deactivated by SCIM");
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
    live.cut_by(&answer).expect("removed by SCIM");
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

    live.cut_by(&answer).expect("out of the group by SCIM");
    let groups = directory.office.whoami().unwrap().unwrap()["groups"].clone();
    assert_eq!(groups, json!([]), "still logged in");
    let join = json!({ "op": "Add", "path": "members", "value": [{ "value": directory.ada }] });
    directory.patch(&dba, &join);
    directory.live().exchange(SOON).unwrap();
}
