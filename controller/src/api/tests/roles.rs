//! Every route, asked in every role: who gets what, and that of another's perimeter an owner learns nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use ringfence_control::{FlowEnd, FlowRecords, FlowReport, FlowTraffic};
use ringfence_controlplane::{
    AccessCommand, AccountCommand, ApiTokenCommand, ApplyPlan, Change, Command, DirectoryCommand, Event,
    Identity, LockCommand, PeopleCommand, PolicyFile, Provider, ProviderCommand, Role, SecondFactor,
    TokenHash, Urgency, UserId, VerifiedLogin, WorkloadCommand,
};
use ringfence_model::{
    Labels, LockId, NodeId, PrivateKey, PublicKey, RuleId, SessionId, TokenId, UnixMillis,
};

use super::super::{caller, openapi};
use super::*;
use crate::core::entropy;

/// What the owners of the perimeters `alpha` and `beta`, an auditor and an administrator are answered. Each asks about
/// `alpha`, `{…}` stands for an id in it; nobody else is let in anywhere.
const ROUTES: &str = r#"
                                                      auditor alpha beta admin
GET    /access                                        200     200   200  200
GET    /access?perimeter=alpha                        200     200   200  200
GET    /access?node=alpha-db                          200     200   404  200
POST   /access                                        403     403   403  200   {"node":"alpha-app","perimeter":"alpha","to":"db","ports":["tcp/80"],"for_seconds":600,"reason":"x"}
GET    /access/{id}                                   200     200   404  200   @access
POST   /access/{id}/approve                           403     200   404  200   @access {}
POST   /access/{id}/deny                              403     200   404  200   @access {}
POST   /access/{id}/end                               403     200   404  200   @access
POST   /access/{id}/review                            403     200   404  200   @access {}
GET    /accounts                                      200     403   403  200
POST   /accounts                                      403     403   403  200   {"name":"zoe","email":"zoe@example.com","groups":["dba"],"session_seconds":3600}
PATCH  /accounts/{name}                               403     403   403  200   ada {"groups":["dba"]}
POST   /accounts/{name}/reset                         403     403   403  200   ada
DELETE /accounts/{name}                               403     403   403  200   ada
GET    /api-tokens                                    200     403   403  200
POST   /api-tokens                                    403     403   403  200   {"name":"more","role":"auditor","ttl_seconds":60}
DELETE /api-tokens/{token}                            403     403   403  200   alpha
GET    /audit                                         200     200   200  200
GET    /audit/verify                                  200     403   403  200
POST   /drills/revoke                                 403     409   404  409   {"perimeter":"alpha"}
POST   /explain                                       200     200   404  200   {"from":"alpha-app","to":"alpha-db","service":"tcp/5432"}
POST   /explain                                       200     200   404  200   {"from":"bridge","to":"alpha-db","service":"icmp"}
POST   /explain                                       200     403   403  200   {"from":"alpha-app","to":"alpha-db","service":"tcp/5432","at_ms":99999999999999}
POST   /explain                                       200     404   404  200   {"from":"beta-app","to":"beta-db","service":"icmp","perimeter":"alpha"}
GET    /flows                                         200     200   200  200
GET    /flows?perimeter=alpha                         200     200   404  200
GET    /flows?node=alpha-db                           200     200   404  200
GET    /locks                                         200     200   200  200
POST   /locks                                         403     403   403  200   {"target":"node:alpha-db"}
POST   /locks                                         403     200   404  200   {"target":"perimeter:alpha"}
POST   /locks                                         403     404   404  404   {"target":"perimeter:alpha","keep":["node:nobody"]}
DELETE /locks/{id}                                    403     403   404  200   @lock
GET    /nodes                                         200     200   200  200
GET    /nodes/{node}                                  200     200   404  200   alpha-db
GET    /nodes/{node}                                  200     200   404  200   @node
PATCH  /nodes/{node}                                  403     403   403  200   alpha-db {"set_labels":{"tier":"edge"}}
DELETE /nodes/{node}                                  403     403   403  200   alpha-db
PUT    /nodes/{node}/facts/{name}                     403     403   403  200   alpha-db,edr {"value":true,"ttl_seconds":60}
GET    /nodes/{node}/posture                          200     200   404  200   alpha-db
GET    /peers                                         200     200   200  200
POST   /peers                                         403     403   403  200   @peer
GET    /peers/{name}                                  200     200   404  200   alpha-printer
DELETE /peers/{name}                                  403     403   403  200   alpha-printer
GET    /perimeters                                    200     200   200  200
POST   /perimeters                                    403     200   404  200   @apply
POST   /perimeters                                    403     200   404  200   @dry-run
POST   /perimeters                                    403     403   403  200   @prune
POST   /perimeters                                    403     404   404  200   @create
GET    /perimeters/{name}                             200     200   404  200   alpha
DELETE /perimeters/{name}                             403     403   403  200   alpha
GET    /posture                                       200     403   403  200
PUT    /posture                                       403     403   403  200   @posture
GET    /providers                                     200     403   403  200
POST   /providers                                     403     403   403  200   {"name":"other","issuer":"https://login.example.com","client_id":"x"}
POST   /providers/{name}/scim-token                   403     403   403  200   corp
DELETE /providers/{name}/scim-token                   403     403   403  200   scim
DELETE /providers/{name}                              403     403   403  200   corp
GET    /revisions/latest                              200     200   200  200
GET    /revisions/{revision}/receipt                  200     200   200  200   latest
GET    /revisions/{revision}/wait                     200     200   200  200   latest
GET    /sessions                                      200     200   200  200
DELETE /sessions/{id}                                 403     403   403  200   @session
GET    /tokens                                        200     403   403  200
POST   /tokens                                        403     403   403  200   {"labels":{"role":"db"}}
DELETE /tokens/{id}                                   403     403   403  200   @join
GET    /users                                         200     403   403  200
PATCH  /users                                         403     403   403  200   {"user":"alpha-person@example.com","active":false}
GET    /workload-issuers                              200     403   403  200
PUT    /workload-issuers                              403     403   403  200   @workload
GET    /workload-issuers/{name}                       200     403   403  200   prod
DELETE /workload-issuers/{name}                       403     403   403  200   prod
POST   /workload-issuers/{name}/test                  200     403   403  200   prod {"jwt":"e30.e30.AA"}
POST   /verify                                        200     200   404  200   {"perimeter":"alpha","wait_ms":200}
"#;

/// Whose keys are in it: nobody is asked for them.
const ISSUER: &str = r#"
[issuer]
name = "prod"
url = "https://ci.example.com"
audience = "ringfence"
jwks = '{ "keys": [{ "kty": "EC" }] }'
[[admit]]
claims.sub = "builder"
labels.role = "ci"
"#;

/// Those that answer anybody.
const PUBLIC: [(&str, &str); 1] = [("GET", "/api/v1/health")];

#[tokio::test]
async fn every_route_answers_every_role_as_the_table_says() {
    for row in rows() {
        let mut mesh = TwoPerimeters::new().await;
        let worthless = [
            None,
            Some("rfa_wrong"),
            Some(&*mesh.expired),
            Some(&*mesh.revoked),
        ];
        for token in worthless {
            mesh.assert_refused(&row, token).await;
        }
        let askers = [
            mesh.auditor.clone(),
            mesh.beta.clone(),
            mesh.alpha.clone(),
            TOKEN.to_owned(),
        ];
        for (asker, expected) in askers.into_iter().zip(row.expected) {
            let before = mesh.api.core.revision().await.unwrap();
            let (status, answer) = mesh.ask(&row, Some(&asker)).await;
            assert_eq!(status, expected, "{} {}: {answer}", row.method, row.route);
            let after = mesh.api.core.revision().await.unwrap();
            if asker == mesh.auditor || !(200..300).contains(&status) {
                mesh.assert_nothing_but_refusals(before, &row).await;
            }
            if asker == mesh.beta {
                mesh.assert_hidden(&row, status, &answer).await;
            }
            if asker == TOKEN && row.expected[1] == 200 && row.route != "/revisions/latest" {
                // Else that nothing of it was told to the owner of `beta` would mean nothing.
                let told = mesh.names.iter().any(|name| answer.contains(name));
                assert!(told, "{} {}: {answer}", row.method, row.route);
            }
            if before != after {
                mesh = TwoPerimeters::new().await;
            }
        }
    }
}

#[tokio::test]
async fn every_documented_route_has_its_row() {
    let mut tested: BTreeSet<(String, String)> = PUBLIC
        .iter()
        .map(|(method, path)| ((*method).to_owned(), (*path).to_owned()))
        .collect();
    for row in rows() {
        let path = row.route.split('?').next().unwrap();
        tested.insert((row.method.to_string(), format!("{PREFIX}{path}")));
    }

    let document = serde_json::to_value(openapi::document().await.0).unwrap();
    let paths = document["paths"].as_object().unwrap().iter();
    let documented = paths.flat_map(|(path, operations)| {
        let methods = operations.as_object().unwrap().keys();
        methods.map(|method| (method.to_uppercase(), path.clone()))
    });
    assert_eq!(tested, documented.collect());
}

/// One line of the table.
struct Row {
    method: Method,
    route: &'static str,
    /// Of the auditor, the owner of `beta`, the owner of `alpha` and the administrator: in order of what they may.
    expected: [u16; 4],
    argument: &'static str,
    body: &'static str,
}

fn rows() -> Vec<Row> {
    let lines = ROUTES.trim().lines().skip(1);
    lines.map(row).collect()
}

fn row(line: &'static str) -> Row {
    let words: Vec<&str> = line.split_whitespace().collect();
    let status = |n: usize| words[n].parse().unwrap();
    let rest = &words[6..];
    let (argument, body) = match rest {
        [] => ("", ""),
        [argument, body] => (*argument, *body),
        [only] if words[1].contains('{') => (*only, ""),
        [only] => ("", *only),
        _ => panic!("{line}"),
    };
    Row {
        method: words[0].parse().unwrap(),
        route: words[1],
        expected: [status(2), status(4), status(3), status(5)],
        argument,
        body,
    }
}

/// A mesh with two perimeters that are alike, and tokens for all roles.
struct TwoPerimeters {
    api: Api,
    alpha: String,
    beta: String,
    auditor: String,
    expired: String,
    revoked: String,
    lock: LockId,
    node: NodeId,
    session: SessionId,
    join: TokenId,
    /// Whatever names something in `alpha`.
    names: Vec<String>,
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn labels(text: &str) -> Labels {
    Labels::parse_pairs(text.split(',')).unwrap()
}

fn public_key(n: u8) -> PublicKey {
    PrivateKey::from_random([n; 32]).public_key()
}

/// The key of the labels that `perimeter` selects by.
fn key_of(perimeter: &str) -> &str {
    &perimeter[..1]
}

fn policy(perimeter: &str, port: u16) -> String {
    let key = key_of(perimeter);
    format!(
        "[perimeter]\nname = \"{perimeter}\"\nowners = [\"{perimeter}-owner@example.com\"]\n[members]\ndb = {{ nodes = \
         \"{key}=db\" }}\napp = {{ nodes = \"{key}=app\" }}\n[[allow]]\nfrom = \"app\"\nto = \"db\"\nports = \
         [\"tcp/{port}\"]\n"
    )
}

fn file(perimeter: &str, port: u16) -> PolicyFile {
    PolicyFile {
        file: format!("{perimeter}.toml"),
        text: policy(perimeter, port),
    }
}

impl TwoPerimeters {
    async fn new() -> Self {
        let api = Api::new();
        let (built, token_ids) = api.core.with(build).await.unwrap();
        for (node, perimeter, peer) in built.flows {
            api.flows.note_member(node, vec![perimeter.clone()]);
            let records = FlowRecords {
                stream: 1,
                first: 0,
                records: vec![flow(perimeter, peer)],
            };
            api.flows.take(node, records, wall_now()).await.unwrap();
        }
        let [alpha, beta, auditor, expired, revoked] = token_ids;
        Self {
            api,
            alpha,
            beta,
            auditor,
            expired,
            revoked,
            lock: built.lock,
            node: built.node,
            session: built.session,
            join: built.join,
            names: built.names,
        }
    }

    /// The path and body of a row, with `alpha` and what is in it replaced.
    fn fill(&self, row: &Row) -> (String, String) {
        let argument = match row.argument {
            // The first that was asked for.
            "@access" => "1".to_owned(),
            "@lock" => self.lock.to_string(),
            "@node" => self.node.to_string(),
            "@session" => self.session.to_string(),
            "@join" => self.join.to_string(),
            plain => plain.to_owned(),
        };
        let mut arguments = argument.split(',');
        let mut path = PREFIX.to_owned();
        for part in row.route.split_inclusive(['{', '}']) {
            match part.strip_suffix('}') {
                Some(_) => path += arguments.next().unwrap(),
                None => path += part.trim_end_matches('{'),
            }
        }
        let apply = |perimeter, port, rest: &str| {
            let file = serde_json::json!([{ "name": "x.toml", "text": policy(perimeter, port) }]);
            format!("{{\"files\":{file}{rest}}}")
        };
        let body = match row.body {
            "@apply" => apply("alpha", 5433, ""),
            "@dry-run" => apply("alpha", 5433, ",\"dry_run\":true"),
            "@prune" => apply("alpha", 5433, ",\"prune\":true"),
            "@create" => apply("gamma", 5433, ""),
            "@peer" => {
                let key = public_key(77);
                format!(
                    r#"{{"name":"scanner","perimeter":"alpha","public_key":"{key}","labels":{{"a":"app"}}}}"#
                )
            }
            "@posture" => {
                r#"{"file":{"name":"x","text":"[[check]]\nname = \"x\"\nos.id = \"debian\"\n"}}"#.to_owned()
            }
            "@workload" => {
                let file = serde_json::json!({ "name": "x", "text": ISSUER.replace("prod", "ci") });
                format!("{{\"file\":{file}}}")
            }
            plain => plain.to_owned(),
        };
        (path, body)
    }

    async fn ask(&self, row: &Row, token: Option<&str>) -> (u16, String) {
        let (path, body) = self.fill(row);
        self.send((&row.method, &path, body), token).await
    }

    async fn send(
        &self,
        (method, path, body): (&Method, &str, String),
        token: Option<&str>,
    ) -> (u16, String) {
        let mut request = request(method.clone(), path).header("x-request-id", "r");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Body::from(body)).unwrap();
        let (status, _, answer) = self.api.send(request).await;
        (status.as_u16(), answer.to_string())
    }

    async fn assert_refused(&self, row: &Row, token: Option<&str>) {
        let before = self.api.core.revision().await.unwrap();
        let (status, answer) = self.ask(row, token).await;
        assert_eq!(status, 401, "{} {}: {answer}", row.method, row.route);
        assert_eq!(self.api.core.revision().await.unwrap(), before);
        for hidden in &self.names {
            assert!(!answer.contains(hidden), "{hidden}: {answer}");
        }
    }

    /// What was refused has changed nothing; that it was asked for may stand in the log.
    async fn assert_nothing_but_refusals(&self, before: ringfence_model::Revision, row: &Row) {
        let looked = self.api.core.with(move |core| {
            let entries = core.log().entries_since(UnixMillis(0), 100_000).unwrap();
            let since = entries.iter().filter(|entry| entry.revision > before);
            since
                .map(|entry| crate::core::parse_entry(entry).unwrap().method)
                .collect::<Vec<_>>()
        });
        let since = looked.await.unwrap();
        assert!(
            since.iter().all(|method| method == "refusal.record"),
            "{} {}: {since:?}",
            row.method,
            row.route
        );
    }

    /// The owner of `beta` is answered about `alpha` as about what is not there, and sees nothing of it in lists.
    async fn assert_hidden(&self, row: &Row, status: u16, answer: &str) {
        let (path, body) = self.fill(row);
        if status == 404 {
            let elsewhere = |text: &str| self.elsewhere(text);
            let (missing, there) = self
                .send(
                    (&row.method, &elsewhere(&path), elsewhere(&body)),
                    Some(&self.beta),
                )
                .await;
            assert_eq!(
                (missing, there),
                (404, elsewhere(answer)),
                "{} {path}",
                row.method
            );
            return;
        }
        for hidden in &self.names {
            assert!(
                !answer.contains(hidden),
                "{} {path} tells {hidden}: {answer}",
                row.method
            );
        }
    }

    /// A text with every name of `alpha` replaced by one that nobody has.
    fn elsewhere(&self, text: &str) -> String {
        let node = self.node.to_string();
        let text = text.replace(&node, "0123456789abcdef").replace("alpha", "omega");
        text.replace("/access/1", "/access/99")
            .replace("access 1", "access 99")
    }
}

/// What is in both perimeters.
struct Built {
    lock: LockId,
    node: NodeId,
    session: SessionId,
    join: TokenId,
    names: Vec<String>,
    flows: Vec<(NodeId, Name, NodeId)>,
}

/// By whose word people and workloads come in.
fn tell_of_people(core: &mut Core) {
    for provider in [provider("corp"), provider("scim")] {
        admin(core, &Command::Provider(ProviderCommand::Add { provider }));
    }
    let token = DirectoryCommand::CreateToken {
        provider: name("scim"),
        secret_hash: TokenHash::of_secret(b"scim"),
    };
    admin(core, &Command::Directory(token));
    let issuer = WorkloadCommand::Set {
        file: PolicyFile {
            file: "x".to_owned(),
            text: ISSUER.to_owned(),
        },
    };
    admin(core, &Command::Workloads(issuer));
    let account = AccountCommand::Add {
        name: name("ada"),
        email: None,
        groups: BTreeSet::new(),
        session: Duration::from_hours(1),
    };
    admin(core, &Command::Accounts(account));
}

fn build(core: &mut Core) -> (Built, [String; 5]) {
    admin(
        core,
        &Command::ApplyPerimeters {
            files: vec![file("alpha", 5432), file("beta", 5432)],
            prune: false,
            base: None,
        },
    );
    tell_of_people(core);
    let (mut flows, mut names) = (Vec::new(), vec!["alpha".to_owned()]);
    let mut keys = 0;
    let mut first = None;
    for perimeter in ["alpha", "beta"] {
        let key = key_of(perimeter);
        let db = enroll(core, &format!("{perimeter}-db"), &format!("{key}=db"));
        let app = enroll(core, &format!("{perimeter}-app"), &format!("{key}=app"));
        for node in [db, app] {
            keys += 1;
            register(core, node, perimeter, public_key(keys));
        }
        keys += 1;
        let printer = Command::AddDevice {
            name: name(&format!("{perimeter}-printer")),
            perimeter: name(perimeter),
            public_key: public_key(keys),
            labels: labels(&format!("{key}=app")),
            expires: None,
        };
        admin(core, &printer);
        log_in(core, app, &format!("{perimeter}-person"));
        ask_for_access(core, db, perimeter);
        flows.push((db, name(perimeter), app));
        first.get_or_insert((db, app));
    }
    let (node, app) = first.unwrap();
    names.extend([node.to_string(), app.to_string()]);
    // It is in both.
    enroll(core, "bridge", "a=app,b=app");
    let lock = lock(core, "node:alpha-app", &["alpha-db"]);
    self::lock(core, "node:beta-app", &["alpha-db", "beta-db"]);
    names.push(self::lock(core, "label:a=none", &[]).to_string());
    let join = join_token(core, "a=app");
    let session = core.controller().session_at(app).unwrap().id;
    names.extend([lock.to_string(), session.to_string(), join.to_string()]);
    let tokens = tokens(core);
    // The latest revision is for nodes of both.
    self::lock(core, "node:bridge", &["alpha-db", "beta-db"]);
    let built = Built {
        lock,
        node,
        session,
        join,
        names,
        flows,
    };
    (built, tokens)
}

/// For the owners, an auditor, one whose time is over and one that was revoked.
fn tokens(core: &mut Core) -> [String; 5] {
    let owner = |perimeter| Role::Owner {
        perimeters: [name(perimeter)].into(),
    };
    let alpha = api_token(core, ("alpha", owner("alpha")), wall_now());
    let beta = api_token(core, ("beta", owner("beta")), wall_now());
    let auditor = api_token(core, ("auditor", Role::Auditor), wall_now());
    let yesterday = UnixMillis(wall_now().0 - 86_400_000);
    let expired = api_token(core, ("expired", Role::Admin), yesterday);
    let revoked = api_token(core, ("revoked", Role::Admin), wall_now());
    let token = core.controller().find_api_token("revoked").unwrap();
    admin(core, &Command::ApiTokens(ApiTokenCommand::Revoke { token }));
    [alpha, beta, auditor, expired, revoked]
}

fn admin(core: &mut Core, command: &Command) -> Change {
    core.commit(&Actor::admin("admin", "r"), command).unwrap()
}

fn api_token(core: &mut Core, (called, role): (&str, Role), wall: UnixMillis) -> String {
    let command = Command::ApiTokens(ApiTokenCommand::Create {
        name: name(called),
        role,
        stands_for: Some(format!("{called}-owner@example.com")),
        ttl: Duration::from_hours(1),
        secret_hash: TokenHash::of_secret(called.as_bytes()),
    });
    let actor = Actor::admin("admin", "r");
    let controller = core.controller();
    let change = controller
        .propose(&actor, command, wall, entropy().unwrap())
        .unwrap();
    commit_as_proposed(core, change);
    let id = core.controller().find_api_token(called).unwrap();
    caller::write(id, called).to_string()
}

/// The clock of a change is the moment that it was proposed at.
fn commit_as_proposed(core: &mut Core, change: Change) {
    let report = ringfence_control::api::ApplyReport {
        revision: change.revision,
        dry_run: false,
        applied: Vec::new(),
        removed: Vec::new(),
        changes: Vec::new(),
        more_changes: 0,
        warnings: Vec::new(),
    };
    let plan = ApplyPlan {
        change: Some(change),
        report,
        only_closes: false,
    };
    core.commit_planned(&plan).unwrap();
}

fn join_token(core: &mut Core, labels_text: &str) -> TokenId {
    let change = admin(
        core,
        &Command::CreateToken {
            labels: labels(labels_text),
            ttl: Duration::from_hours(1),
            uses: 1,
            secret_hash: TokenHash::of_secret(b"join"),
        },
    );
    let created = change.events.iter().find_map(|event| match event {
        Event::TokenCreated { token } => Some(token.id),
        _ => None,
    });
    created.unwrap()
}

fn enroll(core: &mut Core, called: &str, labels_text: &str) -> NodeId {
    let token = join_token(core, labels_text);
    let command = Command::Enroll {
        token,
        secret_hash: TokenHash::of_secret(b"join"),
        name: name(called),
        identity: Identity::from_spki(format!("spki of {called}").as_bytes()).unwrap(),
    };
    core.commit(&Actor::token(token, "r"), &command).unwrap();
    core.controller().find(called).unwrap()
}

fn register(core: &mut Core, node: NodeId, perimeter: &str, public_key: PublicKey) {
    let command = Command::RegisterKey {
        node,
        perimeter: name(perimeter),
        public_key,
    };
    core.commit(&Actor::node(node, "r"), &command).unwrap();
}

fn provider(called: &str) -> Provider {
    Provider {
        name: name(called),
        issuer: "https://login.example.com".to_owned(),
        client_id: "x".to_owned(),
        confidential: false,
        scopes: Vec::new(),
        groups_claim: None,
        directory_claim: None,
        session_ms: 3_600_000,
        second_factor: SecondFactor::default(),
        allow_private_address: false,
        ca_pem: None,
    }
}

fn log_in(core: &mut Core, node: NodeId, who: &str) {
    let address = format!("{who}@example.com");
    let login = VerifiedLogin {
        user: UserId {
            provider: name("corp"),
            subject: who.to_owned(),
        },
        name: who.to_owned(),
        email: Some(address),
        groups: BTreeSet::new(),
        provider_session: None,
        directory_id: None,
        acr: None,
        amr: BTreeSet::new(),
        authenticated_at: wall_now(),
        mfa_at: None,
    };
    let command = PeopleCommand::StartSession {
        node,
        login,
        length: Duration::from_hours(1),
    };
    core.commit(&Actor::system("identity", "r"), &Command::People(command))
        .unwrap();
}

fn ask_for_access(core: &mut Core, node: NodeId, perimeter: &str) {
    let command = AccessCommand::Request {
        node,
        perimeter: name(perimeter),
        to: name("db"),
        services: vec!["tcp/22".parse().unwrap()],
        length: Duration::from_hours(1),
        reason: format!("{perimeter} is odd"),
        urgency: Urgency::Ordinary,
    };
    core.commit(&Actor::admin("ada", "r"), &Command::Access(command))
        .unwrap();
}

fn lock(core: &mut Core, target: &str, keep: &[&str]) -> LockId {
    let keep: Vec<String> = keep.iter().map(|text| format!("node:{text}")).collect();
    let before: BTreeSet<LockId> = core.controller().locks().map(|lock| lock.id).collect();
    let command = LockCommand::Set {
        target: core.controller().lock_target(target).unwrap(),
        keep: core.controller().lock_keep(&keep).unwrap(),
        reason: "a test".to_owned(),
        ttl: None,
    };
    admin(core, &Command::Locks(command));
    let mut locks = core.controller().locks().map(|lock| lock.id);
    locks.find(|id| !before.contains(id)).unwrap()
}

fn flow(perimeter: Name, peer: NodeId) -> FlowReport {
    FlowReport {
        perimeter,
        peer,
        direction: ringfence_policy::Direction::Ingress,
        protocol: 6,
        src: "100.64.0.1".parse().unwrap(),
        dst: "100.64.0.2".parse().unwrap(),
        src_port: 40_000,
        dst_port: 5432,
        rule: RuleId(1),
        revision: ringfence_model::Revision { term: 1, n: 3 },
        opened_at: wall_now(),
        closed_at: wall_now(),
        end: FlowEnd::Finished,
        to_responder: FlowTraffic::default(),
        to_initiator: FlowTraffic::default(),
    }
}
