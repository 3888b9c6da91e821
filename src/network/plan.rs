//! What was typed for a new network, checked: which nodes there are, on which machine and port each.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::cli::NewNetwork;
use crate::config::ConfigError;

/// Signers and followers together: each has all the others as peers, and a node takes 50 unless it is told otherwise.
const MAX_NODES: usize = 51;
/// With a period of 0 nothing is sealed while there are no transactions; one longer than a day is a slip of the finger.
const PERIOD_S: RangeInclusive<u64> = 1..=86_400;
/// With checkpoints alone nobody could vote: a checkpoint carries none.
const MIN_EPOCH: u64 = 2;
/// A node that has lost its snapshots reads the headers since the last checkpoint, up to an epoch of them: some 3 us each, and 0.3 s for so
/// many. More than three times geth's 30,000 is a slip of the finger.
const MAX_EPOCH: u64 = 100_000;

/// A node of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// `signer1`, `follower1` and so on.
    pub(super) name: String,
    /// Does it seal?
    pub(super) seals: bool,
    /// Its machine's address or name.
    pub(super) host: String,
    /// Where it listens.
    pub(super) listen: IpAddr,
    /// Its port.
    pub(super) port: u16,
}

impl Place {
    /// Host and port, an IPv6 address in brackets.
    pub(super) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// The nodes, the signers first.
///
/// # Errors
/// `Usage` for what cannot be.
pub(super) fn places(typed: &NewNetwork) -> Result<Vec<Place>, ConfigError> {
    let usage = |what: String| Err(ConfigError::Usage(what));
    let nodes = typed.signers.saturating_add(typed.followers);
    if typed.signers == 0 {
        return usage("--signers 0: expected at least 1, or nobody seals".into());
    }
    if nodes > MAX_NODES {
        return usage(format!(
            "{nodes} nodes: expected at most {MAX_NODES}, --signers and --followers together"
        ));
    }
    if !PERIOD_S.contains(&typed.period) {
        return usage(format!(
            "--period {}: expected {} to {} seconds",
            typed.period,
            PERIOD_S.start(),
            PERIOD_S.end()
        ));
    }
    if !(MIN_EPOCH..=MAX_EPOCH).contains(&typed.epoch) {
        return usage(format!(
            "--epoch {}: expected {MIN_EPOCH} to {MAX_EPOCH} blocks; a node that has lost its snapshots reads up to an epoch of headers",
            typed.epoch
        ));
    }
    if typed.chain_id == Some(0) {
        return usage("--chain-id 0: expected at least 1".into());
    }
    let hosts: Vec<&str> = typed.hosts.iter().map(|host| host.trim()).collect();
    for host in &hosts {
        check_host(host)?;
    }
    let is_loopback = |host: &&&str| match host.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback(),
        Err(_) => **host == "localhost",
    };
    let loopback = hosts.iter().filter(is_loopback).count();
    if loopback > 0 && loopback < hosts.len() {
        return usage(format!(
            "--hosts {}: a loopback address is reached from its own machine alone; name that machine as the others reach it",
            hosts.join(",")
        ));
    }
    let mut places: Vec<Place> = Vec::with_capacity(nodes);
    for index in 0..nodes {
        let host = hosts[index % hosts.len()];
        let before = places.iter().filter(|place| place.host == host).count();
        let port = u16::try_from(usize::from(typed.base_port) + before).unwrap_or(0);
        if port == 0 || typed.base_port == 0 {
            return usage(format!(
                "--base-port {}: expected 1 to 65535, also for the last of the nodes on one machine",
                typed.base_port
            ));
        }
        let seals = index < typed.signers;
        places.push(Place {
            name: match seals {
                true => format!("signer{}", index + 1),
                false => format!("follower{}", index + 1 - typed.signers),
            },
            seals,
            host: host.into(),
            listen: listen(host),
            port,
        });
    }
    Ok(places)
}

/// A host stands in scripts, units and URLs, so nothing but addresses and plain names is one.
fn check_host(host: &str) -> Result<(), ConfigError> {
    let is_name = || {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        (1..=253).contains(&host.len()) && !host.starts_with('-') && host.chars().all(plain)
    };
    match host.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => Err(ConfigError::Usage(format!(
            "--hosts {host}: expected the address that the other nodes reach the machine at"
        ))),
        Ok(_) => Ok(()),
        Err(_) if is_name() => Ok(()),
        Err(_) => Err(ConfigError::Usage(format!(
            "--hosts {host:?}: expected addresses or host names with commas between"
        ))),
    }
}

/// On loopback alone where the network is; else on every address, for a machine may not have its public one.
fn listen(host: &str) -> IpAddr {
    match host.parse::<IpAddr>() {
        Ok(ip) if ip.is_loopback() => ip,
        Err(_) if host == "localhost" => IpAddr::from([127, 0, 0, 1]),
        Ok(IpAddr::V6(_)) => IpAddr::from([0_u8; 16]),
        _ => IpAddr::from([0, 0, 0, 0]),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::{Cli, Command, NetworkCommand};
    use clap::Parser as _;

    fn typed(args: &str) -> NewNetwork {
        let words = "cairn network new --out x ".to_owned() + args;
        match Cli::try_parse_from(words.split_whitespace())
            .unwrap()
            .command
        {
            Some(Command::Network(NetworkCommand::New(new))) => new,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nodes_are_dealt_to_the_hosts_and_ports_count_up_on_each() {
        let of = |args: &str| {
            let places = places(&typed(args)).unwrap();
            let text = |place: &Place| format!("{} {}", place.name, place.authority());
            places.iter().map(text).collect::<Vec<_>>()
        };
        assert_eq!(
            of("--signers 2 --followers 1 --base-port 40"),
            [
                "signer1 127.0.0.1:40",
                "signer2 127.0.0.1:41",
                "follower1 127.0.0.1:42"
            ]
        );
        assert_eq!(
            of("--signers 3 --hosts fd00::1,b.example --base-port 9"),
            [
                "signer1 [fd00::1]:9",
                "signer2 b.example:9",
                "signer3 [fd00::1]:10"
            ]
        );
        let places = places(&typed("--hosts 10.0.0.1,fd00::1,::1")).map(|_| ());
        assert!(places.is_err(), "a loopback host among others");
    }

    #[test]
    fn what_cannot_be_is_wrong_usage() {
        for wrong in [
            "--signers 0",
            "--signers 40 --followers 12",
            "--period 0",
            "--period 86401",
            "--epoch 1",
            "--epoch 100001",
            "--chain-id 0",
            "--base-port 0",
            "--base-port 65534",
            "--hosts 0.0.0.0",
            "--hosts a,,b",
            "--hosts $(reboot)",
            "--hosts=-x.example",
        ] {
            let refused = places(&typed(wrong));
            assert!(matches!(refused, Err(ConfigError::Usage(_))), "{wrong}");
        }
    }
}
