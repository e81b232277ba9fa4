//! Chains and rules of nftables, as far as they tell whether anything is refused.
//!
//! **Invariant:** attributes that are cut off or unknown are skipped, never guessed.

use std::collections::BTreeMap;

/// What was read.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) chains: Vec<Chain>,
    pub(super) rules: BTreeMap<ChainName, Vec<Rule>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ChainName {
    pub(super) family: u8,
    table: Vec<u8>,
    chain: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) name: ChainName,
    /// Packets for this host pass it, and it is there to filter.
    pub(super) is_input_filter: bool,
    pub(super) drops_by_default: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// It drops or rejects what it matches.
    pub(super) refuses: bool,
    /// Chains that it has look further.
    pub(super) leads_to: Vec<ChainName>,
}

impl Chain {
    pub(super) fn read(family: u8, bytes: &[u8]) -> Option<Self> {
        let name = ChainName {
            family,
            table: text(bytes, CHAIN_TABLE)?,
            chain: text(bytes, CHAIN_NAME)?,
        };
        let hook = find(bytes, CHAIN_HOOK).and_then(|hook| number(hook, HOOK_NUMBER));
        let is_filter = text(bytes, CHAIN_TYPE).as_deref() == Some(&b"filter"[..]);
        Some(Self {
            name,
            is_input_filter: is_filter && hook == Some(LOCAL_IN),
            drops_by_default: number(bytes, CHAIN_POLICY) == Some(DROP),
        })
    }
}

impl Rule {
    pub(super) fn read(family: u8, bytes: &[u8]) -> Option<(ChainName, Self)> {
        let table = text(bytes, RULE_TABLE)?;
        let chain = ChainName {
            family,
            table: table.clone(),
            chain: text(bytes, RULE_CHAIN)?,
        };
        let mut rule = Self {
            refuses: false,
            leads_to: Vec::new(),
        };
        let expressions = find(bytes, RULE_EXPRESSIONS).unwrap_or_default();
        for (_, expression) in Attributes(expressions) {
            let data = find(expression, EXPRESSION_DATA).unwrap_or_default();
            match text(expression, EXPRESSION_NAME).as_deref() {
                Some(b"reject") => rule.refuses = true,
                Some(b"immediate") => {
                    let verdict = find(data, IMMEDIATE_DATA).and_then(|data| find(data, DATA_VERDICT));
                    let verdict = verdict.unwrap_or_default();
                    match number(verdict, VERDICT_CODE) {
                        Some(DROP) => rule.refuses = true,
                        Some(JUMP | GOTO) => {
                            rule.leads_to
                                .extend(text(verdict, VERDICT_CHAIN).map(|chain| ChainName {
                                    family,
                                    table: table.clone(),
                                    chain,
                                }));
                        }
                        Some(_) | None => {}
                    }
                }
                // Extensions of iptables.
                Some(b"target") => {
                    let name = text(data, TARGET_NAME);
                    rule.refuses |= matches!(name.as_deref(), Some(b"REJECT" | b"DROP"));
                }
                Some(_) | None => {}
            }
        }
        Some((chain, rule))
    }
}

/// Attributes, one after the other: length, kind, value, padding to four bytes.
struct Attributes<'b>(&'b [u8]);

impl<'b> Iterator for Attributes<'b> {
    type Item = (u16, &'b [u8]);

    fn next(&mut self) -> Option<(u16, &'b [u8])> {
        let length = usize::from(u16::from_ne_bytes(*self.0.first_chunk()?));
        let kind = u16::from_ne_bytes(*self.0.get(2..)?.first_chunk()?);
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & KIND, value))
    }
}

fn find(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    let (_, value) = Attributes(bytes).find(|(kind, _)| *kind == wanted)?;
    Some(value)
}

fn text(bytes: &[u8], kind: u16) -> Option<Vec<u8>> {
    let value = find(bytes, kind)?;
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    Some(value[..end].to_vec())
}

fn number(bytes: &[u8], kind: u16) -> Option<u32> {
    Some(u32::from_be_bytes(*find(bytes, kind)?.first_chunk()?))
}

/// Without the marks for nested attributes and for byte order.
const KIND: u16 = 0x3fff;

// As linux/netfilter/nf_tables.h numbers them.
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const IMMEDIATE_DATA: u16 = 2;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
const TARGET_NAME: u16 = 1;

const LOCAL_IN: u32 = 1;
const DROP: u32 = 0;
/// Minus three, and minus four.
const JUMP: u32 = u32::MAX - 2;
const GOTO: u32 = u32::MAX - 3;
