//! The socket of an interface as `wg` asks it: it tells, and nothing can be set.

use ringfence_node::doors::wireguard_requests;

pub(crate) fn run(input: &[u8]) {
    let (told, refused) = wireguard_requests(input);
    let ends = input.windows(2).filter(|pair| pair == b"\n\n").count();
    assert!(told + refused <= ends, "every request ends with an empty line");
    let asked = input.windows(6).filter(|line| line == b"get=1\n").count();
    assert!(told <= asked, "only who asks is told");
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("get", b"get=1\n\n".to_vec()),
        ("twice", b"get=1\n\nget=1\n\n".to_vec()),
        ("set", b"set=1\nprivate_key=00\nreplace_peers=true\n\n".to_vec()),
        ("odd", b"GET / HTTP/1.1\r\n\r\n\n\n".to_vec()),
        ("not-text", b"get=1\n\xff\xfe\n\n".to_vec()),
        ("torn", b"get=1\n".to_vec()),
    ]
}
