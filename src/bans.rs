//! The bans of peers in the data folder, so that a restart forgives nothing: a small file, replaced whole.

use std::fs;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use alloy_primitives::hex;
use cairn_net::enode::NodeId;
use cairn_net::limits::SCORED_MOST;
use cairn_net::reactor::Handle;
use cairn_net::scores::{Ban, Subject};
use serde::{Deserialize, Serialize};

use crate::datadir::write_whole;

/// As many bans as there can be, in JSON with room to spare.
const FILE_LIMIT_BYTES: u64 = 256 * SCORED_MOST as u64;
/// A stranger must not make us write without end.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// One ban as it is written: of an id or of an address.
#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    /// Unix time.
    until: u64,
    count: u32,
}

/// The file, and what of it is written.
pub struct BanFile {
    path: PathBuf,
    /// Of the bans that the file has.
    version: u64,
    tried: Option<Instant>,
}

impl BanFile {
    /// The file at `path`, which need not be there, and the bans in it. What cannot be read is told and not believed.
    pub fn open(path: PathBuf) -> (BanFile, Vec<Ban>) {
        let bans = match read(&path) {
            Ok(bans) => bans,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                log::warn!(
                    "The bans of earlier runs are forgotten: cannot read {}: {error}",
                    path.display()
                );
                Vec::new()
            }
        };
        let file = BanFile {
            path,
            version: 0,
            tried: None,
        };
        (file, bans)
    }

    /// Writes the bans if there are new ones, once in a while; `at_once` at the end.
    pub fn keep(&mut self, net: &Handle, at_once: bool) {
        let version = net.bans_version();
        let waits = self.tried.is_some_and(|at| at.elapsed() < WRITE_INTERVAL);
        if version == self.version || (waits && !at_once) {
            return;
        }
        self.tried = Some(Instant::now());
        let lines: Vec<Line> = net.bans().iter().map(line).collect();
        let json = serde_json::to_vec(&lines).expect("plain data is JSON");
        match write_whole(&self.path, &json, 0o644) {
            Ok(()) => self.version = version,
            // They still hold as long as the node runs.
            Err(error) => log::warn!("The bans of peers are not kept for the next run: {error}"),
        }
    }
}

fn read(path: &std::path::Path) -> io::Result<Vec<Ban>> {
    let mut json = Vec::new();
    fs::File::open(path)?
        .take(FILE_LIMIT_BYTES + 1)
        .read_to_end(&mut json)?;
    if json.len() as u64 > FILE_LIMIT_BYTES {
        let what = format!("more than {FILE_LIMIT_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let lines: Vec<Line> = serde_json::from_slice(&json)?;
    lines.into_iter().map(ban).collect()
}

fn line(ban: &Ban) -> Line {
    let (id, address) = match ban.subject {
        Subject::Id(id) => (Some(hex::encode(id.0)), None),
        Subject::Address(ip) => (None, Some(ip)),
    };
    Line {
        id,
        address,
        until: ban.until_s,
        count: ban.count,
    }
}

fn ban(line: Line) -> io::Result<Ban> {
    let subject = match (line.id, line.address) {
        (Some(id), None) => hex::decode(&id)
            .ok()
            .and_then(|id| <[u8; 64]>::try_from(id).ok())
            .map(|id| Subject::Id(NodeId(id))),
        (None, Some(ip)) => Some(Subject::Address(ip)),
        _ => None,
    };
    let what = || io::Error::new(io::ErrorKind::InvalidData, "a ban of no id and no address");
    Ok(Ban {
        subject: subject.ok_or_else(what)?,
        until_s: line.until,
        count: line.count,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bans_are_read_as_they_are_written_and_what_is_none_is_not_believed() {
        let bans = [
            Ban {
                subject: Subject::Id(NodeId([7; 64])),
                until_s: 1_700_000_300,
                count: 1,
            },
            Ban {
                subject: Subject::Address("2001:db8::".parse().unwrap()),
                until_s: u64::MAX,
                count: u32::MAX,
            },
        ];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bans.json");
        assert!(BanFile::open(path.clone()).1.is_empty());
        let lines: Vec<Line> = bans.iter().map(line).collect();
        write_whole(&path, &serde_json::to_vec(&lines).unwrap(), 0o644).unwrap();
        assert_eq!(BanFile::open(path.clone()).1, bans);
        for wrong in [
            &b"not json"[..],
            b"{}",
            br#"[{"until":1,"count":1}]"#,
            br#"[{"id":"abc","until":1,"count":1}]"#,
            br#"[{"address":"nowhere","until":1,"count":1}]"#,
            &vec![b' '; FILE_LIMIT_BYTES as usize + 1],
        ] {
            fs::write(&path, wrong).unwrap();
            assert!(BanFile::open(path.clone()).1.is_empty());
        }
    }
}
