//! The API does what its own document says.

use ringfence_e2e::{Api, Answer};
use serde_json::{Value, json};

use crate::stage::{API_TO_DB, SHOP, Shop, policy};

#[test]
fn every_route_answers_in_the_documented_shape() {
    let shop = Shop::open("openapi", &[API_TO_DB]);
    let api = shop.mesh.api().unwrap();
    let answer = api.raw("GET", "/api/v1/openapi.json", "Host: 10.77.0.1:7443\r\n", b"").unwrap().ok().unwrap();
    let document = answer.json().unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let checker = Checker { document: &document, api: &api };
    let files = json!({ "files": [{ "name": "shop.toml", "text": policy(&[API_TO_DB]) }] });
    let dry = json!({ "files": [{ "name": "shop.toml", "text": policy(&[]) }], "dry_run": true });
    let key = "k0LW1lJpQSbVGqzZyyUkfN4KdJcYLzMGIxeWkfWGVWY=";
    let peer = json!({ "name": "laptop", "perimeter": SHOP, "public_key": key, "labels": { "role": "device" } });

    checker.good("GET", "/api/v1/health", "", None);
    checker.good("GET", "/api/v1/revisions/latest", "", None);
    checker.good("GET", "/api/v1/revisions/{revision}/wait", "latest", None);
    checker.good("POST", "/api/v1/perimeters", "", Some(&files));
    checker.good("POST", "/api/v1/perimeters", "", Some(&dry));
    checker.good("GET", "/api/v1/perimeters", "", None);
    checker.good("GET", "/api/v1/perimeters/{name}", SHOP, None);
    checker.good("GET", "/api/v1/nodes", "", None);
    checker.good("GET", "/api/v1/nodes/{node}", "db", None);
    checker.good("PATCH", "/api/v1/nodes/{node}", "web", Some(&json!({ "set_labels": { "tier": "edge" } })));
    let token = checker.good("POST", "/api/v1/tokens", "", Some(&json!({ "labels": { "role": "db" } })));
    checker.good("GET", "/api/v1/tokens", "", None);
    checker.good("DELETE", "/api/v1/tokens/{id}", token["id"].as_str().unwrap(), None);
    checker.good("POST", "/api/v1/peers", "", Some(&peer));
    checker.good("GET", "/api/v1/peers", "", None);
    checker.good("GET", "/api/v1/peers/{name}", "laptop", None);
    checker.good("DELETE", "/api/v1/peers/{name}", "laptop", None);
    checker.good("POST", "/api/v1/explain", "", Some(&json!({ "from": "api", "to": "db", "service": "tcp/5432" })));
    checker.good("POST", "/api/v1/verify", "", Some(&json!({ "perimeter": SHOP, "wait_ms": 300 })));
    checker.good("GET", "/api/v1/audit", "", None);
    checker.good("GET", "/api/v1/audit/verify", "", None);
    checker.good("DELETE", "/api/v1/nodes/{node}", "web", None);
    checker.good("DELETE", "/api/v1/perimeters/{name}", SHOP, None);

    checker.bad("GET", "/api/v1/perimeters/{name}", "nothing", None);
    checker.bad("GET", "/api/v1/nodes/{node}", "nobody", None);
    checker.bad("POST", "/api/v1/perimeters", "", Some(&json!({ "files": [{ "name": "x", "text": "nonsense" }] })));
    checker.bad("POST", "/api/v1/tokens", "", Some(&json!({})));
    checker.bad("DELETE", "/api/v1/peers/{name}", "nobody", None);
    let routes = document["paths"].as_object().unwrap();
    let operations: usize = routes.values().map(|route| route.as_object().unwrap().len()).sum();
    assert_eq!(operations, 22, "a new operation wants its line above");
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
        let schema = &self.operation(method, route)["responses"][status.as_str()]["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{shown}: {status} is not documented");
        assert!(answer.header("content-type").unwrap().starts_with("application/json"), "{shown}");
        let value = answer.json().unwrap();
        self.check(schema, &value, &format!("{method} {route}"));
        value
    }

    /// The answer is a documented problem.
    fn bad(&self, method: &str, route: &str, argument: &str, body: Option<&Value>) {
        let (answer, shown) = self.ask(method, route, argument, body);
        assert!((400..500).contains(&answer.status), "{shown}");
        assert!(self.operation(method, route)["responses"]["4XX"].is_object(), "{shown}: problems are not documented");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{shown}");
        let problem = &self.document["components"]["schemas"]["Problem"];
        self.check(problem, &answer.json().unwrap(), &format!("{method} {route}"));
    }

    fn ask(&self, method: &str, route: &str, argument: &str, body: Option<&Value>) -> (Answer, String) {
        let path = match (route.find('{'), route.find('}')) {
            (Some(start), Some(end)) => format!("{}{argument}{}", &route[..start], &route[end + 1..]),
            _ => route.to_owned(),
        };
        let answer = self.api.request(method, &path, body).unwrap();
        let shown = format!("{method} {path}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
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
                assert!(choices.iter().any(|choice| self.fits(choice, value)), "{at}: {value} is none of {choices:?}");
            }
        }
        if let Some(words) = schema["enum"].as_array() {
            assert!(words.contains(value), "{at}: {value} is none of {words:?}");
        }
        assert!(self.fits(schema, value), "{at}: {value} is no {}", schema["type"]);
        for name in schema["required"].as_array().into_iter().flatten() {
            assert!(value.get(name.as_str().unwrap()).is_some(), "{at}: {name} is missing in {value}");
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
            let named = &self.document["components"]["schemas"][name.trim_start_matches("#/components/schemas/")];
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
