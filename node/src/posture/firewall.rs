//! Whether a packet filter judges what comes in.
//!
//! It does if, for each of IPv4 and IPv6 that this host speaks, a chain of nftables on the way in drops by default, or
//! has a rule that drops or rejects, itself or in a chain that it jumps to. `iptables-nft`, `ufw`, `firewalld` and plain
//! nftables are all seen so; the old `iptables-legacy` is not, and counts as no filter.

mod tables;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use self::tables::{Chain, ChainName, Rule, Tables};

pub(super) fn is_active(root: &Path) -> Result<bool, String> {
    let tables = read_whole().map_err(|error| format!("nftables cannot be read: {error}"))?;
    let speaks_ipv6 = speaks_ipv6(&fs::read_to_string(root.join(IPV6_ADDRESSES)).unwrap_or_default());
    Ok(tables.filters(IPV4) && (!speaks_ipv6 || tables.filters(IPV6)))
}

impl Tables {
    /// Whether what comes in by this family is judged.
    fn filters(&self, family: u8) -> bool {
        let mut on_the_way_in = self
            .chains
            .iter()
            .filter(|chain| chain.is_input_filter && [family, BOTH].contains(&chain.name.family));
        on_the_way_in.any(|chain| chain.drops_by_default || self.refuses(&chain.name, &mut BTreeSet::new()))
    }

    /// Whether a rule of the chain, or of one that it leads to, refuses anything.
    fn refuses<'t>(&'t self, name: &'t ChainName, seen: &mut BTreeSet<&'t ChainName>) -> bool {
        if !seen.insert(name) {
            return false;
        }
        let mut rules = self.rules.get(name).into_iter().flatten();
        rules.any(|rule| rule.refuses || rule.leads_to.iter().any(|next| self.refuses(next, seen)))
    }
}

/// Whether an interface other than loopback and ours has an address (proc_pid_net(5), `if_inet6`).
fn speaks_ipv6(addresses: &str) -> bool {
    let interfaces = addresses
        .lines()
        .filter_map(|line| line.split_whitespace().last());
    let mut others = interfaces.filter(|name| *name != "lo" && !name.starts_with("rf-"));
    others.next().is_some()
}

/// The same at one moment: rules that change while they are read are read again.
fn read_whole() -> io::Result<Tables> {
    let mut tables = read();
    for _ in 1..READS_MAX {
        match &tables {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => tables = read(),
            Ok(_) | Err(_) => break,
        }
    }
    tables
}

/// All chains and rules there are in this network namespace.
fn read() -> io::Result<Tables> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.set_non_blocking(true)?;
    let mut tables = Tables::default();
    dump(&socket, GET_CHAIN, |family, attributes| {
        tables.chains.extend(Chain::read(family, attributes));
    })?;
    dump(&socket, GET_RULE, |family, attributes| {
        if let Some((chain, rule)) = Rule::read(family, attributes) {
            tables.rules.entry(chain).or_default().push(rule);
        }
    })?;
    Ok(tables)
}

/// Asks for everything of one kind (netlink(7), NLM_F_DUMP).
fn dump(socket: &Socket, kind: u16, mut take: impl FnMut(u8, &[u8])) -> io::Result<()> {
    let mut request = Vec::with_capacity(HEADER_BYTES + 4);
    request.extend(((HEADER_BYTES + 4) as u32).to_ne_bytes());
    request.extend((NFTABLES | kind).to_ne_bytes());
    request.extend((REQUEST | DUMP).to_ne_bytes());
    request.extend([0; 8]);
    // Of every family, in version 0.
    request.extend([0; 4]);
    socket.send_to(&request, &SocketAddr::new(0, 0), 0)?;
    let mut read = 0;
    let mut buffer = Vec::with_capacity(ANSWER_BYTES_MAX);
    loop {
        buffer.clear();
        socket.recv(&mut buffer, 0)?;
        read += buffer.len();
        if read > DUMP_BYTES_MAX {
            return Err(io::Error::other("there are more rules than are read"));
        }
        for message in Messages(&buffer) {
            match message {
                Message::Item { family, attributes } => take(family, attributes),
                Message::Done => return Ok(()),
                Message::Error(errno) => return Err(io::Error::from_raw_os_error(errno)),
                Message::Broken => return Err(io::Error::other("the kernel's answer is malformed")),
            }
        }
    }
}

/// The netlink messages in one datagram.
struct Messages<'b>(&'b [u8]);

enum Message<'b> {
    Item { family: u8, attributes: &'b [u8] },
    Done,
    Error(i32),
    Broken,
}

impl<'b> Iterator for Messages<'b> {
    type Item = Message<'b>;

    fn next(&mut self) -> Option<Message<'b>> {
        if self.0.is_empty() {
            return None;
        }
        let message = self.read_one();
        if message.is_none() {
            self.0 = &[];
        }
        Some(message.unwrap_or(Message::Broken))
    }
}

impl<'b> Messages<'b> {
    fn read_one(&mut self) -> Option<Message<'b>> {
        let length = u32::from_ne_bytes(*self.0.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes(*self.0.get(4..)?.first_chunk()?);
        let flags = u16::from_ne_bytes(*self.0.get(6..)?.first_chunk()?);
        let body = self.0.get(HEADER_BYTES..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        if flags & INTERRUPTED != 0 {
            return Some(Message::Error(libc::EINTR));
        }
        Some(match kind {
            DONE => Message::Done,
            ERROR => match i32::from_ne_bytes(*body.first_chunk()?) {
                0 => Message::Done,
                errno => Message::Error(-errno),
            },
            _ => Message::Item {
                family: *body.first()?,
                attributes: body.get(4..)?,
            },
        })
    }
}

const IPV6_ADDRESSES: &str = "proc/self/net/if_inet6";

const HEADER_BYTES: usize = 16;
const REQUEST: u16 = 1;
const DUMP: u16 = 0x300;
/// The rules changed meanwhile: what was told may be of both.
const INTERRUPTED: u16 = 0x10;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NFTABLES: u16 = 10 << 8;
const GET_CHAIN: u16 = 4;
const GET_RULE: u16 = 7;

/// Families of nftables; `inet` is both.
const BOTH: u8 = 1;
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// The kernel fills at most 32 KiB at once.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const DUMP_BYTES_MAX: usize = 64 << 20;
const READS_MAX: usize = 4;

#[cfg(test)]
mod tests;
