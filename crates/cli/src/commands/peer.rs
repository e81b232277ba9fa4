//! `ringfence peer …`: devices that run a stock WireGuard client.

use ringfence_control::api::{AddPeerRequest, ChangeReport, PeerConfig, PeerList};

use crate::args::{PeerCommand, labels};
use crate::client::Client;
use crate::commands::receipt;
use crate::failure::Failure;
use crate::output::{Output, list, table};
use crate::when;

pub(super) fn run(command: PeerCommand, client: &Client, output: &mut Output) -> Result<(), Failure> {
    match command {
        PeerCommand::Add(args) => {
            let request = AddPeerRequest {
                name: args.name,
                perimeter: args.perimeter,
                public_key: args.public_key,
                labels: labels(&args.labels)?,
                expires_seconds: args.expires.map(|expires| expires.as_secs()),
            };
            let config: PeerConfig = client.post("/peers", &request)?;
            show(&config, output);
        }
        PeerCommand::Config { name } => {
            let config: PeerConfig = client.get(&format!("/peers/{name}"))?;
            show(&config, output);
        }
        PeerCommand::Ls => {
            let answer: PeerList = client.get("/peers")?;
            output.answer(&answer, |answer| {
                table(
                    [
                        "NAME",
                        "PERIMETER",
                        "ADDRESSES",
                        "REACHES",
                        "LABELS",
                        "EXPIRES",
                        "KEY",
                    ],
                    answer.peers.iter().map(|peer| {
                        [
                            peer.name.to_string(),
                            peer.perimeter.to_string(),
                            list(&peer.addresses),
                            list(&peer.reaches),
                            peer.labels.to_string(),
                            when::at_or_never(peer.expires_ms),
                            peer.public_key.to_string(),
                        ]
                    }),
                )
            });
        }
        PeerCommand::Rm { name } => {
            let report: ChangeReport = client.delete(&format!("/peers/{name}"))?;
            output.answer(&report, |report| {
                format!("peer {name} removed; revision {}", report.revision)
            });
            receipt::note_closing(report.revision, &report.changes, client, output);
        }
    }
    Ok(())
}

fn show(config: &PeerConfig, output: &mut Output) {
    output.answer(config, |config| config.wg_quick.clone());
    if config.peer.reaches.is_empty() {
        output.note("note: no rule lets this device reach anything yet, so the file names no peer");
    }
}
