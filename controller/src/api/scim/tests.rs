//! What Okta and Entra ID send, and what comes back.

use axum::body::Body;
use axum::http::{Method, StatusCode, header};
use ringfence_controlplane::UserStanding;
use ringfence_model::Name;
use serde_json::{Value, json};

use crate::api::tests::{Api, request, with_token};

/// An API with a provider `corp` that has a SCIM token.
struct Scim {
    api: Api,
    token: String,
}

impl Scim {
    async fn new() -> Self {
        let api = Api::new();
        let provider = json!({ "name": "corp", "issuer": "https://login.example.com", "client_id": "x" });
        let add = with_token(Method::POST, "/api/v1/providers").body(Body::from(provider.to_string()));
        let (status, _, body) = api.send(add.unwrap()).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let token = new_token(&api).await;
        Self { api, token }
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let path = format!("/scim/v2{path}");
        let request = request(method, &path)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .body(Body::from(body.to_string()));
        let (status, kind, body) = self.api.send(request.unwrap()).await;
        if !body.is_null() {
            assert_eq!(kind, "application/scim+json", "{path}: {body}");
        }
        (status.as_u16(), body)
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(Method::GET, path, Value::Null).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Makes a user or group, and gives its id.
    async fn make(&self, path: &str, body: Value) -> String {
        let (status, body) = self.ask(Method::POST, path, body).await;
        assert_eq!(status, 201, "{body}");
        body["id"].as_str().unwrap().to_owned()
    }

    async fn patch(&self, path: &str, operations: Value) -> (u16, Value) {
        let body = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
            "Operations": operations,
        });
        self.ask(Method::PATCH, path, body).await
    }

    /// An error, with its status and `scimType`.
    async fn refused(&self, method: Method, path: &str, body: Value) -> (u16, String) {
        let (status, body) = self.ask(method, path, body).await;
        assert_eq!(
            body["schemas"],
            json!(["urn:ietf:params:scim:api:messages:2.0:Error"]),
            "{body}"
        );
        assert_eq!(body["status"], status.to_string(), "{body}");
        (status, body["scimType"].as_str().unwrap_or("").to_owned())
    }

    async fn members(&self, group: &str) -> Vec<String> {
        let group = self.get(&format!("/Groups/{group}")).await;
        let members = group["members"].as_array().unwrap().iter();
        members
            .map(|member| member["value"].as_str().unwrap().to_owned())
            .collect()
    }
}

async fn new_token(api: &Api) -> String {
    let make = with_token(Method::POST, "/api/v1/providers/corp/scim-token").body(Body::empty());
    let (status, _, body) = api.send(make.unwrap()).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body["token"].as_str().unwrap().to_owned()
}

fn ada() -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "userName": "ada@example.com",
        "name": { "givenName": "Ada", "familyName": "Lovelace" },
        "emails": [{ "primary": true, "value": "ada@example.com", "type": "work" }],
        "displayName": "Ada Lovelace",
        "locale": "en-US",
        "externalId": "00ujl29u0le5T6Aj10h7",
        "groups": [],
        "password": "1mz050nq",
        "active": true,
    })
}

#[tokio::test]
async fn okta_makes_finds_changes_and_deactivates_a_person() {
    let scim = Scim::new().await;
    let by_name = "/Users?filter=userName%20eq%20%22Ada@Example.com%22&startIndex=1&count=100";
    assert_eq!(scim.get(by_name).await["totalResults"], 0);

    let (status, made) = scim.ask(Method::POST, "/Users", ada()).await;
    assert_eq!(status, 201);
    let id = made["id"].as_str().unwrap();
    assert_eq!(made["active"], true);
    assert_eq!(made["userName"], "ada@example.com");
    assert_eq!(made["externalId"], "00ujl29u0le5T6Aj10h7");
    assert_eq!(
        made["meta"]["location"],
        format!("https://192.0.2.1:7443/scim/v2/Users/{id}")
    );
    assert!(made.get("password").is_none());
    let found = scim.get(by_name).await;
    assert_eq!(
        (&found["totalResults"], &found["Resources"][0]),
        (&1.into(), &made)
    );

    let user = format!("/Users/{id}");
    let off = json!([{ "op": "replace", "value": { "active": false } }]);
    assert_eq!(scim.patch(&user, off).await.1["active"], false);

    let mut changed = ada();
    changed["displayName"] = "Countess".into();
    changed.as_object_mut().unwrap().remove("active");
    let (status, put) = scim.ask(Method::PUT, &user, changed.clone()).await;
    assert_eq!((status, &put["displayName"]), (200, &"Countess".into()));
    assert_eq!(put["active"], false, "leaving it out lets nobody in");
    changed["active"] = true.into();
    assert_eq!(scim.ask(Method::PUT, &user, changed).await.1["active"], true);

    assert_eq!(scim.ask(Method::DELETE, &user, Value::Null).await.0, 204);
    assert_eq!(scim.refused(Method::GET, &user, Value::Null).await.0, 404);
    assert_eq!(scim.refused(Method::DELETE, &user, Value::Null).await.0, 404);
}

#[tokio::test]
async fn entra_id_writes_its_own_patches() {
    let scim = Scim::new().await;
    let id = scim
        .make(
            "/Users",
            json!({
                "schemas": [
                    "urn:ietf:params:scim:schemas:core:2.0:User",
                    "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User",
                ],
                "externalId": "0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef",
                "userName": "Test_User_ab6490ee",
                "active": true,
                "meta": { "resourceType": "User" },
                "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": { "department": "x" },
                "roles": [],
            }),
        )
        .await;
    let user = format!("/Users/{id}");

    let (status, body) = scim
        .patch(
            &user,
            json!([
                { "op": "Replace", "path": "active", "value": "False" },
                { "op": "Add", "path": "emails[type eq \"work\"].value", "value": "a@example.com" },
                { "op": "Replace", "path": "emails[type eq \"work\"].value", "value": "b@example.com" },
                { "op": "Replace", "path": "name.familyName", "value": "Updated" },
                {
                    "op": "Add",
                    "path": "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department",
                    "value": "y",
                },
                { "op": "Replace", "value": { "displayName": "Tester", "emails[type eq \"home\"].value": "c@example.com" } },
            ]),
        )
        .await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["active"], false);
    assert_eq!(body["displayName"], "Tester");
    let addresses: Vec<&Value> = body["emails"]
        .as_array()
        .unwrap()
        .iter()
        .map(|email| &email["value"])
        .collect();
    assert_eq!(addresses, ["b@example.com", "c@example.com"]);

    let on = json!([{ "op": "Replace", "path": "active", "value": [{ "$ref": null, "value": "True" }] }]);
    assert_eq!(scim.patch(&user, on).await.1["active"], true);
    let gone = json!([{ "op": "Remove", "path": "emails[type eq \"home\"]" }]);
    assert_eq!(
        scim.patch(&user, gone).await.1["emails"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let by_id = "/Users?filter=externalId%20eq%20%220a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef%22";
    assert_eq!(scim.get(by_id).await["totalResults"], 1);
}

#[tokio::test]
async fn groups_take_members_in_every_way_they_are_written() {
    let scim = Scim::new().await;
    let a = scim.make("/Users", json!({ "userName": "a" })).await;
    let b = scim.make("/Users", json!({ "userName": "b" })).await;
    let group =
        json!({ "displayName": "dba", "externalId": "g-1", "members": [{ "value": a, "display": "a" }] });
    let id = scim.make("/Groups", group).await;
    let path = format!("/Groups/{id}");
    assert_eq!(scim.members(&id).await, std::slice::from_ref(&a));

    let both = {
        let mut both = vec![a.clone(), b.clone()];
        both.sort();
        both
    };
    let steps = [
        (
            json!([{ "op": "Add", "path": "members", "value": [{ "$ref": null, "value": b }] }]),
            both.clone(),
        ),
        (
            json!([{ "op": "remove", "path": format!("members[value eq \"{b}\"]") }]),
            vec![a.clone()],
        ),
        (
            json!([{ "op": "add", "value": { "members": [{ "value": b }] } }]),
            both,
        ),
        (
            json!([{ "op": "Remove", "path": "members", "value": [{ "value": a }] }]),
            vec![b.clone()],
        ),
        (
            json!([{ "op": "replace", "path": "members", "value": [{ "value": a }] }]),
            vec![a.clone()],
        ),
        (
            json!([{ "op": "replace", "value": { "id": id, "displayName": "dbas" } }]),
            vec![a.clone()],
        ),
        (json!([{ "op": "remove", "path": "members" }]), vec![]),
    ];
    for (operations, members) in steps {
        let (status, body) = scim.patch(&path, operations.clone()).await;
        assert_eq!(status, 204, "{operations}: {body}");
        assert_eq!(scim.members(&id).await, members, "{operations}");
    }
    let found = scim
        .get("/Groups?excludedAttributes=members&filter=displayName%20eq%20%22DBAS%22")
        .await;
    assert_eq!(found["totalResults"], 1);
    assert!(found["Resources"][0].get("members").is_none(), "{found}");
    let put = json!({ "displayName": "dba", "members": [{ "value": b }] });
    assert_eq!(scim.ask(Method::PUT, &path, put).await.0, 200);
    let in_it = format!("/Groups?filter=id%20eq%20%22{id}%22%20and%20members%20eq%20%22{b}%22");
    assert_eq!(scim.get(&in_it).await["totalResults"], 1);
    assert_eq!(scim.ask(Method::DELETE, &path, Value::Null).await.0, 204);
}

#[tokio::test]
async fn a_resource_that_cannot_be_is_refused_as_scim_has_it() {
    let scim = Scim::new().await;
    let id = scim.make("/Users", ada()).await;
    let long = json!({ "userName": "x", "note": "x".repeat(1024 * 1024) });
    let odd = json!({ "userName": "y", "active": "perhaps" });
    let no_id = json!({ "displayName": "g", "members": [{ "value": "x" }] });
    let unknown = json!({ "displayName": "g", "members": [{ "value": "00c0ffee00c0ffee" }] });
    let nested = json!({ "displayName": "g", "members": [{ "value": id, "type": "Group" }] });

    for (path, body, status, kind) in [
        ("/Users", ada(), 409, "uniqueness"),
        ("/Users", json!({ "userName": " " }), 400, "invalidValue"),
        ("/Users", json!({ "active": true }), 400, "invalidValue"),
        ("/Users", odd, 400, "invalidValue"),
        (
            "/Users",
            json!({ "userName": "y".repeat(300) }),
            400,
            "invalidValue",
        ),
        ("/Users", json!([]), 400, "invalidSyntax"),
        ("/Users", long, 413, ""),
        ("/Groups", no_id, 400, "invalidValue"),
        ("/Groups", unknown, 400, "invalidValue"),
        ("/Groups", nested, 400, "invalidValue"),
    ] {
        let shown = body.to_string().chars().take(80).collect::<String>();
        let refused = scim.refused(Method::POST, path, body).await;
        assert_eq!(refused, (status, kind.to_owned()), "{path} {shown}");
    }
    assert_eq!(scim.get("/Users").await["totalResults"], 1);
    assert_eq!(scim.get("/Groups").await["totalResults"], 0);
}

#[tokio::test]
async fn a_patch_that_cannot_be_changes_nothing() {
    let scim = Scim::new().await;
    let user = format!("/Users/{}", scim.make("/Users", ada()).await);
    let before = scim.get(&user).await;

    for (operation, kind) in [
        (json!({ "op": "remove" }), "noTarget"),
        (json!({ "op": "move", "path": "active" }), "invalidSyntax"),
        (json!({ "op": "remove", "path": "active" }), "invalidValue"),
        (
            json!({ "op": "replace", "path": "active", "value": "no" }),
            "invalidValue",
        ),
        (
            json!({ "op": "replace", "path": "userName", "value": "" }),
            "invalidValue",
        ),
        (
            json!({ "op": "add", "path": "emails[x", "value": "a" }),
            "invalidPath",
        ),
        (
            json!({ "op": "add", "path": "emails[type co \"w\"]", "value": "a" }),
            "invalidFilter",
        ),
    ] {
        let first = json!({ "op": "replace", "path": "displayName", "value": "half done" });
        let body = json!({ "Operations": [first, operation.clone()] });
        let refused = scim.refused(Method::PATCH, &user, body).await;
        assert_eq!(refused, (400, kind.to_owned()), "{operation}");
    }
    assert_eq!(scim.get(&user).await, before);
}

#[tokio::test]
async fn what_is_not_there_is_said_so_in_scim() {
    let scim = Scim::new().await;
    scim.make("/Users", ada()).await;
    let patch = json!({ "Operations": [{ "op": "remove", "path": "emails" }] });

    for (method, path, body, status, kind) in [
        (Method::PATCH, "/Users/00c0ffee00c0ffee", patch, 404, ""),
        (Method::GET, "/Users/nobody", Value::Null, 404, ""),
        (Method::GET, "/Nothing", Value::Null, 404, ""),
        (Method::PUT, "/Users", ada(), 405, ""),
        (
            Method::GET,
            "/Users?filter=userName%20co%20%22a%22",
            Value::Null,
            400,
            "invalidFilter",
        ),
        (
            Method::GET,
            "/Users?filter=nickName%20eq%20%22a%22",
            Value::Null,
            400,
            "invalidFilter",
        ),
    ] {
        let refused = scim.refused(method.clone(), path, body).await;
        assert_eq!(refused, (status, kind.to_owned()), "{method} {path}");
    }
}

#[tokio::test]
async fn only_the_token_of_now_counts_and_for_scim_alone() {
    let mut scim = Scim::new().await;
    let id = scim.make("/Users", ada()).await;
    let as_admin = request(Method::GET, "/api/v1/nodes")
        .header(header::AUTHORIZATION, format!("Bearer {}", scim.token))
        .body(Body::empty());
    assert_eq!(scim.api.send(as_admin.unwrap()).await.0, StatusCode::UNAUTHORIZED);

    let old = std::mem::replace(&mut scim.token, new_token(&scim.api).await);
    scim.get(&format!("/Users/{id}")).await;
    let list = with_token(Method::GET, "/api/v1/providers").body(Body::empty());
    let (_, _, listed) = scim.api.send(list.unwrap()).await;
    assert_eq!(listed["providers"][0]["scim"]["people"], 1, "{listed}");
    for secret in [&old, &scim.token] {
        assert!(!listed.to_string().contains(secret));
    }
    let audit = with_token(Method::GET, "/api/v1/audit").body(Body::empty());
    let (_, _, audit) = scim.api.send(audit.unwrap()).await;
    let audit = audit.to_string();
    assert!(
        audit.contains("person.provision") && !audit.contains("secret_hash"),
        "{audit}"
    );
    let current = std::mem::replace(&mut scim.token, old);
    assert_eq!(scim.refused(Method::GET, "/Users", Value::Null).await.0, 401);
    scim.token = current;

    let revoke = with_token(Method::DELETE, "/api/v1/providers/corp/scim-token").body(Body::empty());
    assert_eq!(scim.api.send(revoke.unwrap()).await.0, StatusCode::OK);
    assert_eq!(
        scim.refused(Method::DELETE, &format!("/Users/{id}"), Value::Null)
            .await
            .0,
        401
    );
    let corp = Name::parse("corp").unwrap();
    let standing = scim.api.core.with(move |core| {
        let people = core.controller().directory(&corp).unwrap().people();
        people.map(|person| person.profile.standing).collect::<Vec<_>>()
    });
    assert_eq!(standing.await.unwrap(), [UserStanding::Active]);
}

#[tokio::test]
async fn guessing_a_token_is_slowed_down() {
    let scim = Scim {
        token: "rfs_wrong".to_owned(),
        ..Scim::new().await
    };
    let mut answers = Vec::new();
    for _ in 0..12 {
        answers.push(scim.refused(Method::GET, "/Users", Value::Null).await.0);
    }
    assert_eq!((answers[0], *answers.last().unwrap()), (401, 429));
}

#[tokio::test]
async fn lists_come_in_pages() {
    let scim = Scim::new().await;
    for n in 0..5 {
        scim.make("/Users", json!({ "userName": format!("user-{n}") }))
            .await;
    }
    let mut seen = Vec::new();
    for start in [1, 3, 5, 7] {
        let page = scim
            .get(&format!("/Users?startIndex={start}&count=2&attributes=userName"))
            .await;
        assert_eq!(
            (&page["totalResults"], &page["startIndex"]),
            (&5.into(), &start.into())
        );
        for user in page["Resources"].as_array().unwrap() {
            assert!(user.get("active").is_none() && user["id"].is_string(), "{user}");
            seen.push(user["userName"].as_str().unwrap().to_owned());
        }
    }
    seen.sort();
    assert_eq!(seen, ["user-0", "user-1", "user-2", "user-3", "user-4"]);
    let none = scim.get("/Users?count=0").await;
    assert_eq!(
        (&none["totalResults"], &none["itemsPerPage"]),
        (&5.into(), &0.into())
    );
}

#[tokio::test]
async fn it_says_what_it_can() {
    let scim = Scim::new().await;

    let config = scim.get("/ServiceProviderConfig").await;
    assert_eq!(config["patch"]["supported"], true);
    assert_eq!(config["authenticationSchemes"][0]["type"], "oauthbearertoken");
    assert_eq!(scim.get("/ResourceTypes").await["totalResults"], 2);
    let schemas = scim.get("/Schemas").await;
    assert_eq!(schemas["Resources"][0]["attributes"][0]["name"], "userName");
}
