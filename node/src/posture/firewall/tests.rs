//! What counts as a filter, on messages as the kernel writes them.

use super::*;

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn named(kind: u16, text: &str) -> Vec<u8> {
    attribute(kind, &[text.as_bytes(), &[0]].concat())
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

/// A chain with a hook of this number, a policy and a type; one without is only jumped to.
fn chain(family: u8, name: &str, base: Option<(u32, u32, &str)>) -> Chain {
    let mut bytes = [named(1, "filter"), named(3, name)].concat();
    if let Some((hook, policy, kind)) = base {
        bytes.extend(attribute(4 | 0x8000, &[number(1, hook), number(2, 0)].concat()));
        bytes.extend(number(5, policy));
        bytes.extend(named(7, kind));
    }
    Chain::read(family, &bytes).unwrap()
}

fn expression(name: &str, data: &[u8]) -> Vec<u8> {
    attribute(
        1 | 0x8000,
        &[named(1, name), attribute(2 | 0x8000, data)].concat(),
    )
}

fn verdict(code: i32, chain: Option<&str>) -> Vec<u8> {
    let mut verdict = number(1, code.cast_unsigned());
    verdict.extend(chain.map(|chain| named(2, chain)).into_iter().flatten());
    let data = attribute(2 | 0x8000, &attribute(2 | 0x8000, &verdict));
    expression("immediate", &data)
}

fn rule(family: u8, chain: &str, expressions: &[Vec<u8>]) -> (ChainName, Rule) {
    let list = attribute(4 | 0x8000, &expressions.concat());
    Rule::read(family, &[named(1, "filter"), named(2, chain), list].concat()).unwrap()
}

fn tables(chains: Vec<Chain>, rules: Vec<(ChainName, Rule)>) -> Tables {
    let mut tables = Tables {
        chains,
        ..Tables::default()
    };
    for (chain, rule) in rules {
        tables.rules.entry(chain).or_default().push(rule);
    }
    tables
}

const INPUT: u32 = 1;
const FORWARD: u32 = 2;
const DROP: u32 = 0;
const ACCEPT: u32 = 1;

#[test]
fn a_chain_on_the_way_in_that_drops_by_default_is_a_filter() {
    let both = tables(vec![chain(BOTH, "in", Some((INPUT, DROP, "filter")))], vec![]);
    let one = tables(vec![chain(IPV4, "INPUT", Some((INPUT, DROP, "filter")))], vec![]);

    assert!(both.filters(IPV4) && both.filters(IPV6));
    assert!(one.filters(IPV4) && !one.filters(IPV6));
}

#[test]
fn a_chain_that_lets_everything_in_or_stands_elsewhere_is_none() {
    let open = tables(
        vec![
            chain(BOTH, "in", Some((INPUT, ACCEPT, "filter"))),
            chain(BOTH, "forward", Some((FORWARD, DROP, "filter"))),
            chain(BOTH, "nat", Some((INPUT, DROP, "nat"))),
        ],
        vec![
            rule(BOTH, "in", &[verdict(1, None)]),
            rule(BOTH, "forward", &[verdict(0, None)]),
        ],
    );

    assert!(!open.filters(IPV4));
    assert!(!Tables::default().filters(IPV4));
}

#[test]
fn a_rule_that_refuses_counts_wherever_the_way_in_leads() {
    let base = || chain(BOTH, "in", Some((INPUT, ACCEPT, "filter")));
    for refusal in [
        verdict(0, None),
        expression("reject", &[]),
        expression("target", &named(1, "REJECT")),
    ] {
        let direct = tables(
            vec![base()],
            vec![rule(BOTH, "in", std::slice::from_ref(&refusal))],
        );
        let jumped = tables(
            vec![base(), chain(BOTH, "more", None)],
            vec![
                rule(
                    BOTH,
                    "in",
                    &[expression("counter", &[]), verdict(-3, Some("more"))],
                ),
                rule(BOTH, "more", &[verdict(-4, Some("in"))]),
                rule(BOTH, "more", std::slice::from_ref(&refusal)),
            ],
        );
        let unreached = tables(
            vec![base(), chain(BOTH, "docker", None)],
            vec![rule(BOTH, "docker", std::slice::from_ref(&refusal))],
        );

        assert!(direct.filters(IPV4) && jumped.filters(IPV6));
        assert!(!unreached.filters(IPV4));
    }
}

#[test]
fn a_circle_of_chains_ends() {
    let circle = tables(
        vec![chain(BOTH, "in", Some((INPUT, ACCEPT, "filter")))],
        vec![
            rule(BOTH, "in", &[verdict(-3, Some("a"))]),
            rule(BOTH, "a", &[verdict(-3, Some("in"))]),
        ],
    );

    assert!(!circle.filters(IPV4));
}

#[test]
fn an_answer_that_is_cut_off_is_an_error_and_no_panic() {
    let mut message = 24_u32.to_ne_bytes().to_vec();
    message.extend((NFTABLES | 3).to_ne_bytes());
    message.extend([0; 18]);
    for cut in 1..message.len() {
        let last = Messages(&message[..cut]).last();
        assert!(matches!(last, Some(Message::Broken)), "{cut}");
    }
    assert!(matches!(Messages(&message).last(), Some(Message::Item { .. })));
}

#[test]
fn loopback_and_our_own_interfaces_speak_no_ipv6_that_matters() {
    let lo = "00000000000000000000000000000001 01 80 10 80       lo\n";
    let own = "fd000001000000000000000000000001 03 40 00 80 rf-ledger\n";
    let lan = "fe800000000000000000000000000001 02 40 20 80     eth0\n";

    assert!(!speaks_ipv6(""));
    assert!(!speaks_ipv6(&[lo, own].concat()));
    assert!(speaks_ipv6(&[lo, lan].concat()));
}
