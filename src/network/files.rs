//! What a new network's files say that are no keys: start scripts, systemd units, the README.

use std::fmt::Write as _;
use std::path::Path;

use alloy_primitives::Address;

use super::keys::{DATADIR, Form};
use super::plan::Place;

/// The folder, and the name of the systemd unit, of a node as a service. Two networks on one machine have two chain ids.
pub(super) fn service(chain_id: u64, place: &Place) -> String {
    format!("cairn-{chain_id}-{}", place.name)
}

/// `start.sh`: runs the node from its own folder, wherever that is, with the `cairn` of the path or else this `program`.
pub(super) fn start_script(
    place: &Place,
    signer: Option<Address>,
    form: Form,
    program: &Path,
) -> String {
    let Place {
        name, listen, port, ..
    } = place;
    let sealing = match signer {
        Some(signer) => format!(
            " \\\n    --enable-consensus --validator {signer} {}",
            form.flags()
        ),
        None => String::new(),
    };
    let program = quoted(program);
    format!(
        r#"#!/bin/sh
# Runs the node {name} until Ctrl-C or SIGTERM. The program is CAIRN, if that is set, or `cairn` on the path, or the one that made this.
# Arguments are handed on to it, for example: sh start.sh --verbosity 4
set -eu
cd "$(dirname "$0")"
made_by={program}
cairn=${{CAIRN:-$(command -v cairn || echo "$made_by")}}
# Puts the chain into the data folder at the first start.
"$cairn" init --datadir {DATADIR} genesis.json >&2
exec "$cairn" --datadir {DATADIR} --nodekey nodekey --listen-addr {listen} --port {port} \
    --bootnodes "$(paste -s -d , peers)"{sealing} "$@"
"#
    )
}

/// As one word of a shell's.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

/// The systemd unit.
pub(super) fn unit(chain_id: u64, place: &Place) -> String {
    let service = service(chain_id, place);
    format!(
        r#"# The node {name}, with its folder at /var/lib/{service} and the program at /usr/local/bin/cairn.
[Unit]
Description=cairn, node {name} of chain {chain_id}
Wants=network-online.target
After=network-online.target time-sync.target

[Service]
Environment=CAIRN=/usr/local/bin/cairn
ExecStart=/bin/sh /var/lib/{service}/start.sh
Restart=on-failure
RestartSec=5
# It stops in less than a second, unless a slow disk is in the middle of a commit.
TimeoutStopSec=30

# The folder belongs to a user that systemd makes for this service alone: nobody but root and the node reads the keys.
DynamicUser=yes
StateDirectory={service}
StateDirectoryMode=0700
UMask=0077
# A core dump would hold the signer's key.
LimitCORE=0

# A node needs less than 100 MB of its own, catching up included; the rest is room for pages of its mapped files. Should a fault
# make it grow without end, the node is ended and started again, and not the machine.
MemoryMax=512M
TasksMax=64

NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
CapabilityBoundingSet=
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"#,
        name = place.name,
    )
}

/// README.md: what to do with all of it.
pub(super) fn readme(
    chain_id: u64,
    (period_s, epoch): (u64, u64),
    genesis: &str,
    nodes: &[(&Place, Option<Address>)],
    form: Form,
) -> String {
    let (first, _) = nodes[0];
    let name = &first.name;
    let service = service(chain_id, first);
    let warning = form.warning();
    let mut text = format!(
        r#"# A clique network, chain id {chain_id}

A block every {period_s} s, a checkpoint every {epoch} blocks, genesis {genesis}.
Each folder is one node and all it needs; no two nodes may run on one signer's key.
{warning}

1. Copy each folder to the machine that the table names, and delete the copy here. Put `cairn` on the path there, or its path into `CAIRN`.
2. Start each node: `sh {name}/start.sh`. Ctrl-C stops it; started again it goes on. More than half of the signers must run, with clocks
   that agree (NTP); their ports must be reachable.
3. See how it does: `cairn status --datadir {name}/data`, `cairn clique status --datadir {name}/data`.
4. To vote a signer in (`--auth`) or out (`--drop`), on more than half of the signers' nodes:
   `cairn clique propose ADDRESS --auth --datadir {name}/data`
5. As a service that survives a reboot, with `cairn` in /usr/local/bin and the node stopped:
   `sudo cp -rT {name} /var/lib/{service} && sudo cp {name}/{service}.service /etc/systemd/system/ && sudo systemctl enable --now {service}`
6. One more node needs `genesis.json` and the enode URLs of `peers`; its own URL, which it logs, goes into the others' `peers`.

| node | listens at | seals as |
| --- | --- | --- |
"#
    );
    for (place, signer) in nodes {
        let signer = signer.map_or("-".into(), |signer| signer.to_string());
        writeln!(
            text,
            "| {} | {} | {signer} |",
            place.name,
            place.authority()
        )
        .expect("text takes all of it");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        let path = "/a b/it's/$HOME`x`\"";
        let output = std::process::Command::new("sh")
            .args(["-c", &format!("printf %s {}", quoted(Path::new(path)))])
            .output()
            .expect("there is a shell");
        assert_eq!(output.stdout, path.as_bytes());
    }
}
