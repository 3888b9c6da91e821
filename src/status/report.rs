//! A node's `cairn_status`, as `cairn status` shows it to people.

use std::fmt::{self, Write as _};

use serde_json::Value;

use super::Span;
use crate::standing;

/// A node's `cairn_status`, as people read it.
pub struct Report<'a> {
    /// What the node said.
    pub status: &'a Value,
    /// Unix time, to tell the head's age.
    pub now_s: u64,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |path: &str| self.status.pointer(path).unwrap_or(&Value::Null);
        let text = |path: &str| match at(path) {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let number = |path: &str| at(path).as_u64().unwrap_or(0);
        let rate = |path: &str| at(path).as_f64().unwrap_or(0.0);
        let up = Span(number("/uptime_s"));
        writeln!(
            f,
            "Node     {} pid={} up {up}",
            text("/client"),
            text("/pid")
        )?;
        writeln!(f, "Folder   {}", text("/datadir"))?;
        writeln!(
            f,
            "Chain    {} network={} genesis={}",
            text("/chain_id"),
            text("/network_id"),
            text("/genesis")
        )?;
        writeln!(f, "Enode    {}", text("/enode"))?;
        let age = self.now_s.saturating_sub(number("/head/timestamp"));
        writeln!(
            f,
            "Head     {} {} made {} ago",
            text("/head/number"),
            text("/head/hash"),
            Span(age)
        )?;
        let mut sync = text("/sync/phase").replace('_', " ");
        if let Some(fetched) = at("/sync/headers_fetched").as_u64() {
            write!(sync, " to our chain, {fetched}")?;
            match at("/sync/headers_of").as_u64() {
                Some(all) => {
                    let part = 100.0 * fetched as f64 / all.max(1) as f64;
                    write!(sync, " of {all}, {part:.1} %")?;
                }
                None => sync.push_str(" so far"),
            }
            write!(sync, ", {:.0} headers/s", rate("/sync/headers_per_s"))?;
        } else if let Some(target) = at("/sync/target").as_u64() {
            let (from, reached) = (number("/sync/started_at"), number("/sync/reached"));
            let all = target.saturating_sub(from).max(1);
            let part = 100.0 * reached.saturating_sub(from) as f64 / all as f64;
            let mb_per_s = rate("/sync/bytes_per_s") / 1e6;
            write!(
                sync,
                " to {target}, {part:.1} % since the start, {:.0} blocks/s, {mb_per_s:.1} MB/s",
                rate("/sync/blocks_per_s")
            )?;
        }
        if let Some(left_s) = at("/sync/left_s").as_u64() {
            write!(sync, ", {} left", Span(left_s))?;
        }
        if let Some(age_s) = at("/sync/overdue_s").as_u64() {
            write!(sync, ", and stale: the head is {} old", Span(age_s))?;
        }
        writeln!(f, "Sync     {sync}")?;
        writeln!(f, "Health   {}", health_line(at("/health")))?;
        if let Some(signer) = at("/signer").as_str() {
            writeln!(f, "Signer   {signer}")?;
        }
        let empty = Vec::new();
        let signers = at("/signers/all").as_array().unwrap_or(&empty);
        if !signers.is_empty() {
            let (missing, needed) = (text("/signers/missing"), text("/signers/needed"));
            let all = signers.len();
            writeln!(f, "Signers  {all}, {missing} missing, {needed} needed")?;
        }
        for signer in signers {
            let figure = |name: &str| signer[name].as_u64();
            write!(f, "  {} ", signer["address"].as_str().unwrap_or_default())?;
            match (figure("last_block"), figure("last_block_timestamp")) {
                (Some(number), Some(made_s)) => {
                    let age = Span(self.now_s.saturating_sub(made_s));
                    write!(f, "last block {number}, {age} ago")?;
                }
                _ => write!(f, "none of the last {} blocks", standing::LOOK_BACK)?,
            }
            write!(f, ", {} turns missed", figure("turns_missed").unwrap_or(0))?;
            for (name, says) in [
                ("in_turn_next", "in turn next"),
                ("may_seal_next", "may seal next"),
                ("missing", "MISSING"),
            ] {
                if signer[name] == true {
                    write!(f, ", {says}")?;
                }
            }
            writeln!(f)?;
        }
        let peers = at("/peers").as_array().unwrap_or(&empty);
        writeln!(f, "Peers    {} of {}", peers.len(), text("/max_peers"))?;
        for peer in peers {
            let field = |name: &str| peer.get(name).unwrap_or(&Value::Null);
            let word = |name: &str| field(name).as_str().unwrap_or_default();
            let is = |name: &str| field(name).as_bool() == Some(true);
            let id: String = word("id").chars().take(16).collect();
            let how = if is("inbound") { "inbound" } else { "dialled" };
            let trusted = if is("trusted") { " trusted" } else { "" };
            let for_how_long = Span(field("connected_s").as_u64().unwrap_or(0));
            // A peer's own words: no control characters on the terminal.
            let client = word("client").escape_debug();
            let (address, eth) = (word("address"), field("eth"));
            writeln!(
                f,
                "  {id} {address} eth/{eth} {how}{trusted} {for_how_long} {client}"
            )?;
        }
        Ok(())
    }
}

/// The health in a `cairn_status`, as a line.
pub fn health_line(health: &Value) -> String {
    let text = |name: &str| health[name].as_str().unwrap_or_default();
    let (state, cause, advice) = (text("state"), text("cause"), text("advice"));
    match advice.is_empty() {
        true => format!("{state}: {cause}"),
        false => format!("{state}: {cause}. {advice}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sync_line(sync: &Value) -> String {
        let status = json!({ "sync": sync });
        let report = Report {
            status: &status,
            now_s: 0,
        };
        let text = report.to_string();
        let line = text.lines().find_map(|line| line.strip_prefix("Sync     "));
        line.expect("a line of sync").to_owned()
    }

    #[test]
    fn how_far_sync_is_is_told_in_what_it_fetches() {
        let mut sync = json!({
            "phase": "bodies", "started_at": 100, "reached": 150, "target": 300, "headers_fetched": null, "headers_of": null,
            "headers_per_s": 0.0, "blocks_per_s": 10.0, "bytes_per_s": 2.5e6, "left_s": 15,
        });
        assert_eq!(
            sync_line(&sync),
            "bodies to 300, 25.0 % since the start, 10 blocks/s, 2.5 MB/s, 15 s left"
        );
        sync["phase"] = "falling_headers".into();
        sync["headers_fetched"] = 50.into();
        sync["headers_of"] = 200.into();
        sync["headers_per_s"] = 1.5.into();
        sync["left_s"] = 100.into();
        assert_eq!(
            sync_line(&sync),
            "falling headers to our chain, 50 of 200, 25.0 %, 2 headers/s, 1 min 40 s left"
        );
        sync["headers_of"] = Value::Null;
        sync["left_s"] = Value::Null;
        assert_eq!(
            sync_line(&sync),
            "falling headers to our chain, 50 so far, 2 headers/s"
        );
        assert_eq!(sync_line(&json!({ "phase": "following" })), "following");
    }
}
