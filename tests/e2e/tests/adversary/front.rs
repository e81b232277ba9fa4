//! The controller's doors: guessed tokens, old TLS, requests that are too long, too slow or two at once.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ringfence_e2e::{Api, Mesh, binary, random_bytes};
use ringfence_lab::{Host, Running};
use sha2::{Digest as _, Sha256};

use crate::stage::SOON;

/// The API as a host that has the administrator's file would ask it.
fn api_from(mesh: &Mesh, host: &Host) -> Api {
    Api::new(host, &mesh.data_dir().join("admin.toml")).unwrap()
}

fn openssl(host: &Host, args: &str) -> ringfence_lab::Program {
    let client = host
        .command("openssl")
        .args(["s_client", "-connect", "10.77.0.1:7443"]);
    client.args(args.split(' ').filter(|arg| !arg.is_empty()))
}

#[test]
fn nothing_below_tls_1_3_is_spoken_and_nothing_is_resumed() {
    let mut mesh = Mesh::start("tls").unwrap();
    let outside = mesh.bare_host("outside").unwrap();

    for old in [
        "-tls1_2",
        "-tls1_1",
        "-tls1",
        "-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256",
        "-no_tls1_3",
    ] {
        let run = openssl(&outside, &format!("{old} -cipher ALL:@SECLEVEL=0"))
            .run()
            .unwrap();
        assert!(
            run.all().contains("Cipher is (NONE)") || run.all().contains("no protocols available"),
            "{old}: {}",
            run.all()
        );
        assert_ne!(run.code(), Some(0), "{old}");
    }
    let new = openssl(&outside, "-tls1_3").run().unwrap();
    assert!(
        new.all().contains("TLSv1.3") && !new.all().contains("Cipher is (NONE)"),
        "{}",
        new.all()
    );
    assert!(
        !new.all().contains("New Session Ticket"),
        "no ticket to come back with: {}",
        new.all()
    );
    assert!(
        new.all().contains("Early data was not sent") || !new.all().contains("Max Early Data: 1"),
        "{}",
        new.all()
    );
}

#[test]
fn guessing_the_admin_token_is_slowed_down_and_tells_nothing() {
    let mut mesh = Mesh::start("guess").unwrap();
    let outside = mesh.bare_host("outside").unwrap();
    let api = api_from(&mesh, &outside);
    let token = api.token().to_owned();
    let ask = |authorization: &str| {
        let headers = format!("Host: 10.77.0.1:7443\r\n{authorization}");
        api.raw("GET", "/api/v1/nodes", &headers, b"").unwrap().status
    };

    let mut near: Vec<String> = (1..token.len())
        .step_by(7)
        .map(|length| token[..length].to_owned())
        .collect();
    near.extend([
        format!("{token}a"),
        token.to_uppercase(),
        token.replace('_', "-"),
        String::new(),
        format!("{token}\t{token}"),
    ]);
    near.extend((0..200).map(|n| format!("rfa_guess{n}")));
    let answers: Vec<u16> = near
        .iter()
        .map(|guess| ask(&format!("Authorization: Bearer {guess}\r\n")))
        .collect();

    assert!(
        answers.iter().all(|status| [401, 429].contains(status)),
        "{answers:?}"
    );
    assert_eq!(answers.last(), Some(&429), "guesses run dry: {answers:?}");
    for odd in [
        format!("Authorization: bearer{token}\r\n"),
        format!("Authorization: Basic {token}\r\n"),
        format!("X-Authorization: Bearer {token}\r\n"),
        format!("Cookie: token={token}\r\n"),
    ] {
        assert!([401, 429].contains(&ask(&odd)), "{odd}");
    }
    let path = format!("/api/v1/nodes?token={token}&access_token={token}");
    assert_ne!(
        api.raw("GET", &path, "Host: 10.77.0.1:7443\r\n", b"")
            .unwrap()
            .status,
        200
    );
    // Who has the token is let in from there all the same, and from elsewhere.
    assert_eq!(ask(&format!("Authorization: Bearer {token}\r\n")), 200);
    assert_eq!(mesh.api().unwrap().get("/api/v1/nodes").unwrap().status, 200);
}

#[test]
fn guessing_a_join_token_opens_nothing_and_cannot_fill_the_log() {
    let mut mesh = Mesh::start("join").unwrap();
    let outside = mesh.bare_host("outside").unwrap();
    let token = mesh.token(&["role=db"]).unwrap();
    let other = mesh.bare_host("other").unwrap();
    let enroll = |host: &Host, token: &str, folder: &str| {
        let enroll = host.command(binary("ringfence-node").unwrap()).args([
            "enroll",
            "--token-file",
            "-",
            "--name",
            "guess",
            "--state-dir",
        ]);
        enroll.arg(host.dir().join(folder)).input(token).run().unwrap()
    };

    // More than one address may have refused at once (128): the rest is turned away before it costs an entry.
    let codes: Vec<Option<i32>> = std::thread::scope(|scope| {
        let guessers: Vec<_> = (0..4)
            .map(|guesser| {
                let (enroll, outside, token) = (&enroll, &outside, &token);
                scope.spawn(move || {
                    (0..40)
                        .map(|n| enroll(outside, &guess(token), &format!("g-{guesser}-{n}")).code())
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        guessers
            .into_iter()
            .flat_map(|guesser| guesser.join().unwrap())
            .collect()
    });

    assert!(
        codes.iter().all(|code| code.is_some_and(|code| code != 0)),
        "{codes:?}"
    );
    let audit = mesh.json(["audit", "--limit", "1000"]).unwrap();
    let refused = audit["entries"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry.to_string().contains("refus"))
        .count();
    assert!(
        (100..=150).contains(&refused),
        "{refused} entries for {} guesses",
        codes.len()
    );
    let honest = enroll(&other, &token, "honest");
    assert_eq!(
        honest.code(),
        Some(0),
        "the token is as good as before: {}",
        honest.all()
    );
    assert_eq!(
        mesh.json(["node", "ls"]).unwrap()["nodes"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

/// The token with another secret, whole again.
fn guess(token: &str) -> String {
    let mut bytes = URL_SAFE_NO_PAD
        .decode(token.strip_prefix("rft_").unwrap())
        .unwrap();
    // CBOR's key "s", then 32 bytes.
    let key = [0x61, b's', 0x58, 32];
    let at = bytes.windows(4).position(|window| window == key).unwrap() + 4;
    bytes[at..at + 32].copy_from_slice(&random_bytes::<32>().unwrap());
    let body = bytes.len() - 4;
    let sum = Sha256::digest(&bytes[..body]);
    bytes[body..].copy_from_slice(&sum[..4]);
    format!("rft_{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// Requests that no honest client makes; all of them mean to create a token.
fn odd_requests(admin: &str, body: &str) -> Vec<(&'static str, Vec<u8>)> {
    let post = |rest: &str| format!("POST /api/v1/tokens HTTP/1.1\r\n{admin}{rest}").into_bytes();
    let length = body.len();
    let smuggled =
        format!("0\r\n\r\nPOST /api/v1/tokens HTTP/1.1\r\n{admin}Content-Length: {length}\r\n\r\n{body}");
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 16, " ".repeat(1 << 16));
    let chunks = format!("Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(32));
    let long = "x".repeat(1 << 18);
    let many = "X: y\r\n".repeat(10_000);
    let both = format!(
        "Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n{smuggled}",
        smuggled.len()
    );
    let folded = format!("Content-Length: 0\r\n Content-Length: {length}\r\n\r\n{body}");
    let two = format!("Content-Length: 5\r\nContent-Length: {length}\r\n\r\n{body}");
    let path = format!("GET /{long} HTTP/1.1\r\n{admin}\r\n").into_bytes();
    vec![
        (
            "a terabyte announced",
            post("Content-Length: 1000000000000\r\n\r\n{"),
        ),
        ("two megabytes in chunks", post(&chunks)),
        (
            "a header of 256 KiB",
            post(&format!(
                "X-Long: {long}\r\nContent-Length: {length}\r\n\r\n{body}"
            )),
        ),
        (
            "ten thousand headers",
            post(&format!("{many}Content-Length: {length}\r\n\r\n{body}")),
        ),
        ("a path of 256 KiB", path),
        ("two lengths", post(&two)),
        ("a negative length", post("Content-Length: -1\r\n\r\n{}")),
        ("length and chunks", post(&both)),
        (
            "chunks, and then again",
            post(&format!("Transfer-Encoding: chunked, identity\r\n\r\n{smuggled}")),
        ),
        ("a folded header", post(&folded)),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
    ]
}

#[test]
fn requests_that_are_too_long_or_two_at_once_are_refused() {
    let mut mesh = Mesh::start("long").unwrap();
    let outside = mesh.bare_host("outside").unwrap();
    let api = api_from(&mesh, &outside);
    let token = api.token();
    let admin = format!(
        "Host: 10.77.0.1:7443\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    );
    let tokens = || {
        mesh.json(["token", "ls"]).unwrap()["tokens"]
            .as_array()
            .unwrap()
            .len()
    };
    let body = "{\"labels\":{\"a\":\"b\"}}";

    for (what, request) in odd_requests(&admin, body) {
        if let Ok(answer) = api.exchange(&request) {
            assert!((400..500).contains(&answer.status), "{what}: {answer:?}");
        }
        assert_eq!(tokens(), 0, "{what}");
    }
    assert_eq!(
        api.raw("POST", "/api/v1/tokens", &admin, body.as_bytes())
            .unwrap()
            .status,
        200
    );
}

#[test]
fn whoever_drips_or_holds_every_connection_shuts_nobody_else_out() {
    let mut mesh = Mesh::start("drip").unwrap();
    let outside = mesh.bare_host("outside").unwrap();
    let node = mesh.node("node", &["role=db"]).unwrap();
    let slow = |words: &str| -> Running {
        let client = openssl(&outside, "-quiet -tls1_3")
            .interactive()
            .spawn(&format!("slow-{}", words.len()))
            .unwrap();
        client.say(words).unwrap();
        client
    };
    let began = Instant::now();
    let dripping = slow("GET /api/v1/nodes HTTP/1.1\r\nHost: 10.77.0.1\r\nX-Slow: ");
    let unfinished = slow(
        "POST /api/v1/tokens HTTP/1.1\r\nHost: 10.77.0.1\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
    );
    let mute = openssl(&outside, "-quiet -tls1_3")
        .interactive()
        .spawn("mute")
        .unwrap();
    for client in [&dripping, &unfinished, &mute] {
        client.wait_for_log("verify", SOON).unwrap();
    }
    // One source takes all the connections it may have, and more; none of them says a word.
    let held: Vec<_> = (0..300)
        .filter_map(|_| outside.tcp_connect(mesh.address(), SOON).ok())
        .collect();
    assert!(held.len() > 128);

    // Everybody else is served meanwhile.
    while began.elapsed() < Duration::from_secs(3) {
        let asked = Instant::now();
        assert_eq!(mesh.api().unwrap().get("/api/v1/nodes").unwrap().status, 200);
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        std::thread::sleep(Duration::from_millis(100));
    }
    while began.elapsed() < Duration::from_secs(18) && dripping.is_running() {
        let _ = dripping.say("x");
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(!dripping.is_running(), "a head that drips is cut off");
    assert!(
        began.elapsed() > Duration::from_secs(5),
        "it was held open for a while: {}",
        dripping.log()
    );
    // No token, no waiting for the body.
    assert!(unfinished.log().contains("401"), "{}", unfinished.log());
    ringfence_lab::wait_until(SOON, "the silent ones to be cut off", || {
        !unfinished.is_running() && !mute.is_running()
    })
    .unwrap();
    assert_eq!(node.status().unwrap()["controller"]["connected"], true);
    drop(held);
    let api = api_from(&mesh, &outside);
    ringfence_lab::wait_until(SOON, "the source's own places to be free again", || {
        api.get("/api/v1/nodes").is_ok_and(|answer| answer.status == 200)
    })
    .unwrap();
}
