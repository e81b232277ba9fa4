//! The API does what its own document says.

use std::collections::BTreeSet;

use ringfence_e2e::{Allow, Answer, Api};
use serde_json::{Value, json};

use crate::stage::{API_TO_DB, SHOP, Shop, policy};

/// Every operation, what stands in the braces of its path (several with commas), and a body.
const OPERATIONS: &str = r#"
GET    /api/v1/health                     -
GET    /api/v1/revisions/latest           -
GET    /api/v1/revisions/{revision}/wait  latest
GET    /api/v1/revisions/{revision}/receipt  latest
POST   /api/v1/perimeters                 -      @files
POST   /api/v1/perimeters                 -      @dry-run
GET    /api/v1/perimeters                 -
GET    /api/v1/perimeters/{name}          shop
GET    /api/v1/nodes                      -
GET    /api/v1/nodes/{node}               db
PATCH  /api/v1/nodes/{node}               web    {"set_labels":{"tier":"edge"}}
GET    /api/v1/posture                    -
PUT    /api/v1/posture                    -      @posture
PUT    /api/v1/nodes/{node}/facts/{name}  db,edr {"value":{"version":"7.1"},"ttl_seconds":60}
GET    /api/v1/nodes/{node}/posture       db
POST   /api/v1/tokens                     -      {"labels":{"role":"db"}}
GET    /api/v1/tokens                     -
DELETE /api/v1/tokens/{id}                @token
POST   /api/v1/api-tokens                 -      {"name":"siem","role":"auditor","ttl_seconds":3600}
GET    /api/v1/api-tokens                 -
DELETE /api/v1/api-tokens/{token}         siem
POST   /api/v1/peers                      -      @peer
GET    /api/v1/peers                      -
GET    /api/v1/peers/{name}               laptop
DELETE /api/v1/peers/{name}               laptop
POST   /api/v1/locks                      -      {"target":"node:web","keep":["node:api"],"reason":"test","ttl_seconds":60}
GET    /api/v1/locks                      -
DELETE /api/v1/locks/{id}                 @lock
POST   /api/v1/access                     -      {"node":"web","perimeter":"shop","to":"db","for_seconds":60,"reason":"test"}
POST   /api/v1/access                     -      {"node":"web","perimeter":"shop","to":"db","for_seconds":60,"reason":"test"}
GET    /api/v1/access                     -
GET    /api/v1/access/{id}                1
POST   /api/v1/access/{id}/deny           1      {"reason":"test"}
POST   /api/v1/access/{id}/end            2
GET    /api/v1/sessions                   -
POST   /api/v1/accounts                   -      {"name":"ada","email":"ada@example.com","groups":["dba"],"session_seconds":3600}
GET    /api/v1/accounts                   -
PATCH  /api/v1/accounts/{name}            ada    {"groups":["ops"]}
POST   /api/v1/accounts/{name}/reset      ada
DELETE /api/v1/accounts/{name}            ada
GET    /api/v1/users                      -
POST   /api/v1/providers                  -      {"name":"corp","issuer":"https://login.example.com","client_id":"x","client_secret":"s"}
GET    /api/v1/providers                  -
POST   /api/v1/providers/{name}/scim-token  corp
DELETE /api/v1/providers/{name}/scim-token  corp
DELETE /api/v1/providers/{name}           corp
POST   /api/v1/explain                    -      {"from":"api","to":"db","service":"tcp/5432"}
POST   /api/v1/verify                     -      {"perimeter":"shop","wait_ms":300}
POST   /api/v1/drills/revoke              -      {"perimeter":"shop"}
PUT    /api/v1/workload-issuers           -      @workload
GET    /api/v1/workload-issuers           -
GET    /api/v1/workload-issuers/{name}    prod
POST   /api/v1/workload-issuers/{name}/test  prod {"jwt":"e30.e30.AA"}
DELETE /api/v1/workload-issuers/{name}    prod
GET    /api/v1/audit                      -
GET    /api/v1/flows                      -
GET    /api/v1/audit/verify               -
DELETE /api/v1/nodes/{node}               web
DELETE /api/v1/perimeters/{name}          shop
"#;

/// Those about people, of whom there is nobody here: to have one takes an identity provider. And those that take a second
/// administrator.
const NOBODY: &str = r#"
DELETE /api/v1/sessions/{id}              00c0ffee00c0ffee
PATCH  /api/v1/users                      -      {"user":"alice@example.com","active":false}
POST   /api/v1/access/{id}/approve        1      {}
POST   /api/v1/access/{id}/review         1      {}
"#;

/// Some that are refused.
const REFUSED: &str = r#"
GET    /api/v1/perimeters/{name}          nothing
GET    /api/v1/nodes/{node}               nobody
POST   /api/v1/perimeters                 -      {"files":[{"name":"x","text":"nonsense"}]}
POST   /api/v1/tokens                     -      {}
PUT    /api/v1/posture                    -      {"file":{"name":"x","text":"nonsense"}}
PUT    /api/v1/nodes/{node}/facts/{name}  db,edr {"value":true,"ttl_seconds":0}
GET    /api/v1/nodes/{node}/posture       nobody
DELETE /api/v1/peers/{name}               nobody
PUT    /api/v1/workload-issuers           -      {"file":{"name":"x","text":"nonsense"}}
GET    /api/v1/workload-issuers/{name}    prod
POST   /api/v1/workload-issuers/{name}/test  prod {"jwt":"e30.e30.AA"}
POST   /api/v1/locks                      -      {"target":"node:nobody"}
POST   /api/v1/locks                      -      {"target":"db"}
DELETE /api/v1/locks/{id}                 00c0ffee00c0ffee
"#;

#[test]
fn every_route_answers_in_the_documented_shape() {
    let shop = Shop::open("openapi", &[API_TO_DB]);
    let api = shop.mesh.api().unwrap();
    let host = "Host: 10.77.0.1:7443\r\n";
    let document = api
        .raw("GET", "/api/v1/openapi.json", host, b"")
        .unwrap()
        .ok()
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let checker = Checker {
        document: &document,
        api: &api,
    };

    let mut seen = BTreeSet::new();
    let (mut token, mut lock) = (String::new(), String::new());
    for line in OPERATIONS.trim().lines() {
        let (method, route, argument, body) = parse(line);
        let argument = match argument {
            "@token" => &token,
            "@lock" => &lock,
            plain => plain,
        };
        let answer = checker.good(method, route, argument, body.as_ref());
        match (method, route) {
            ("POST", "/api/v1/tokens") => answer["id"].as_str().unwrap().clone_into(&mut token),
            ("POST", "/api/v1/locks") => answer["lock"]["id"].as_str().unwrap().clone_into(&mut lock),
            _ => {}
        }
        seen.insert((method.to_lowercase(), route.to_owned()));
    }
    for line in NOBODY.trim().lines() {
        let (method, route, argument, body) = parse(line);
        checker.bad(method, route, argument, body.as_ref());
        seen.insert((method.to_lowercase(), route.to_owned()));
    }
    for line in REFUSED.trim().lines() {
        let (method, route, argument, body) = parse(line);
        checker.bad(method, route, argument, body.as_ref());
    }

    let routes = document["paths"].as_object().unwrap();
    for (route, operations) in routes {
        for method in operations.as_object().unwrap().keys() {
            assert!(
                seen.contains(&(method.clone(), route.clone())),
                "{method} {route} wants its line above"
            );
        }
    }
}

fn parse(line: &str) -> (&str, &str, &str, Option<Value>) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let files = |rules: &[Allow]| json!([{ "name": "shop.toml", "text": policy(rules) }]);
    let key = "k0LW1lJpQSbVGqzZyyUkfN4KdJcYLzMGIxeWkfWGVWY=";
    let body = words.get(3).map(|body| match *body {
        "@files" => json!({ "files": files(&[API_TO_DB]) }),
        "@posture" => {
            let text = "[[check]]\nname = \"edr\"\ncustom.edr = { min = \"7\" }\nos.id = \"debian\"\n";
            json!({ "file": { "name": "posture.toml", "text": text } })
        }
        "@workload" => {
            let text = "[issuer]\nname = \"prod\"\nurl = \"https://ci.example.com\"\naudience = \"x\"\n\
                jwks = '{ \"keys\": [{ \"kty\": \"EC\" }] }'\n[[admit]]\nclaims.sub = \"a\"\nlabels.role = \"ci\"\n";
            json!({ "file": { "name": "workload.toml", "text": text } })
        }
        "@dry-run" => json!({ "files": files(&[]), "dry_run": true }),
        "@peer" => {
            json!({ "name": "laptop", "perimeter": SHOP, "public_key": key, "labels": { "role": "device" } })
        }
        text => serde_json::from_str(text).unwrap(),
    });
    (words[0], words[1], words[2], body)
}

struct Checker<'a> {
    document: &'a Value,
    api: &'a Api,
}

impl Checker<'_> {
    /// The answer is a documented success.
    fn good(&self, method: &str, route: &str, argument: &str, body: Option<&Value>) -> Value {
        let (answer, shown) = self.ask(method, route, argument, body);
        assert!((200..300).contains(&answer.status), "{shown}");
        let status = answer.status.to_string();
        let schema = &self.operation(method, route)["responses"][status.as_str()]["content"]["application/json"]
            ["schema"];
        assert!(schema.is_object(), "{shown}: {status} is not documented");
        assert!(
            answer
                .header("content-type")
                .unwrap()
                .starts_with("application/json"),
            "{shown}"
        );
        let value = answer.json().unwrap();
        self.check(schema, &value, &format!("{method} {route}"));
        value
    }

    /// The answer is a documented problem.
    fn bad(&self, method: &str, route: &str, argument: &str, body: Option<&Value>) {
        let (answer, shown) = self.ask(method, route, argument, body);
        assert!((400..500).contains(&answer.status), "{shown}");
        assert!(
            self.operation(method, route)["responses"]["4XX"].is_object(),
            "{shown}: problems are not documented"
        );
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json"),
            "{shown}"
        );
        let problem = &self.document["components"]["schemas"]["Problem"];
        self.check(problem, &answer.json().unwrap(), &format!("{method} {route}"));
    }

    fn ask(&self, method: &str, route: &str, argument: &str, body: Option<&Value>) -> (Answer, String) {
        let mut path = route.to_owned();
        for word in argument.split(',') {
            if let (Some(start), Some(end)) = (path.find('{'), path.find('}')) {
                path.replace_range(start..=end, word);
            }
        }
        let answer = self.api.request(method, &path, body).unwrap();
        let shown = format!(
            "{method} {path}: {} {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
        (answer, shown)
    }

    fn operation(&self, method: &str, route: &str) -> &Value {
        let operation = &self.document["paths"][route][method.to_lowercase().as_str()];
        assert!(operation.is_object(), "{method} {route} is not documented");
        operation
    }

    /// Holds a value against a schema: as much of JSON Schema as the document uses.
    fn check(&self, schema: &Value, value: &Value, at: &str) {
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.trim_start_matches("#/components/schemas/");
            let named = &self.document["components"]["schemas"][name];
            assert!(named.is_object(), "{at}: there is no schema {name}");
            return self.check(named, value, at);
        }
        for all in schema["allOf"].as_array().into_iter().flatten() {
            self.check(all, value, at);
        }
        for word in ["oneOf", "anyOf"] {
            if let Some(choices) = schema[word].as_array() {
                assert!(
                    choices.iter().any(|choice| self.fits(choice, value)),
                    "{at}: {value} is none of {choices:?}"
                );
            }
        }
        if let Some(words) = schema["enum"].as_array() {
            assert!(words.contains(value), "{at}: {value} is none of {words:?}");
        }
        assert!(self.fits(schema, value), "{at}: {value} is no {}", schema["type"]);
        for name in schema["required"].as_array().into_iter().flatten() {
            assert!(
                value.get(name.as_str().unwrap()).is_some(),
                "{at}: {name} is missing in {value}"
            );
        }
        let properties = schema["properties"].as_object();
        for (name, inner) in value.as_object().into_iter().flatten() {
            match properties.and_then(|known| known.get(name)) {
                Some(known) => self.check(known, inner, &format!("{at}.{name}")),
                None => assert!(
                    properties.is_none() || schema["additionalProperties"].is_object(),
                    "{at}: {name} is not documented"
                ),
            }
        }
        for (index, inner) in value.as_array().into_iter().flatten().enumerate() {
            self.check(&schema["items"], inner, &format!("{at}[{index}]"));
        }
    }

    /// Whether the value is of the type that the schema asks for.
    fn fits(&self, schema: &Value, value: &Value) -> bool {
        if let Some(name) = schema["$ref"].as_str() {
            let named =
                &self.document["components"]["schemas"][name.trim_start_matches("#/components/schemas/")];
            return self.fits(named, value);
        }
        let is = |kind: &str| match kind {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            _ => false,
        };
        match &schema["type"] {
            Value::String(kind) => is(kind),
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).any(is),
            _ => true,
        }
    }
}
