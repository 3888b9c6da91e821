//! Whether the node is well, in a word and a sentence: for its log, for `cairn status`, and for the exit status of `cairn status --check`.
//!
//! | word | exit | it means |
//! | --- | --- | --- |
//! | `ok` | 0 | The head is as new as can be known. A minority of the signers may be missing: the sentence names them. |
//! | `catching_up` | 1 | There has been a better chain to fetch for [`CATCHING_UP_S`] seconds, or all peers that have one begin above this node's head. |
//! | `alone` | 1 | Nobody is connected, since the start or for [`ALONE_S`] seconds, so nobody can say whether there is a newer head. A node whose signer is the chain's only one needs nobody. |
//! | `starting` | 1 | The node has just started, on a clique chain's head that is as old as one that stands still: it waits for news as long again, a minute at the least. |
//! | `stale` | 1 | Nothing newer comes from the peers, on a chain of which nobody can say who makes the next block. |
//! | `stalled` | 1 | A clique chain stands still, as far as this node and its peers see. |
//! | `not_sealing` | 1 | The chain goes on, but this node's signer has missed several turns in a row. |

use std::fmt::Write as _;

use alloy_primitives::Address;
use serde::Serialize;

use crate::sealer::Own;
use crate::standing::{LOOK_BACK, SignerStanding, Standing};
use crate::status::{Figures, Span};

/// To fetch a block that was announced takes moments, which a check must not trip over.
pub const CATCHING_UP_S: u64 = 10;
/// A peer that is started again is back after some seconds: it dials at once, and is dialled after 1, 2 and 4 s.
pub const ALONE_S: u64 = 10;
/// Signers named in a sentence: more are only counted, and `cairn status` has them all.
const NAMED: usize = 8;

/// How a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is well.
    Ok,
    /// It fetches a better chain.
    CatchingUp,
    /// Nobody is connected.
    Alone,
    /// It has just started, and cannot say yet whether the chain goes on.
    Starting,
    /// Nothing newer comes, and nobody can say who should make it.
    Stale,
    /// The signers do not go on.
    Stalled,
    /// Its own signer does not seal.
    NotSealing,
}

/// How a node is, why, and what helps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// In a word.
    pub state: State,
    /// `cairn status --check` exits with 0.
    pub healthy: bool,
    /// Why, in a sentence.
    pub cause: String,
    /// What helps; empty if nothing has to.
    pub advice: &'static str,
}

impl Health {
    /// Of a node with these figures, at this Unix time.
    pub fn of(figures: &Figures, now_s: u64) -> Health {
        let standing = figures.standing.as_deref();
        let own = figures.own.as_ref();
        let (state, cause, advice) = match (standing, figures.overdue_s) {
            _ if is_alone(figures) && needs_others(standing, own) => (
                State::Alone,
                alone(figures, now_s),
                "Check --bootnodes, the network and the peers' machines.",
            ),
            _ if let Some(first) = figures.begins_above => (
                State::CatchingUp,
                format!(
                    "the peers have a better chain, but begin with block {first}, and this node's head is block {}",
                    figures.number
                ),
                "Connect to one that has the chain from its first block (--bootnodes), or begin a new --datadir at a --checkpoint.",
            ),
            _ if figures.behind_s.is_some_and(|s| s >= CATCHING_UP_S) => (
                State::CatchingUp,
                catching_up(figures),
                "Wait; the log and `cairn status` show how far it is.",
            ),
            _ if figures.starting_s.is_some() => (
                State::Starting,
                starting(figures, now_s),
                "Wait: it knows soon whether the chain stands still.",
            ),
            (Some(standing), Some(_)) => (
                State::Stalled,
                stalled(standing, own, now_s),
                advice(standing, own),
            ),
            (None, Some(age_s)) => (
                State::Stale,
                format!(
                    "block {} is {} old, and no peer has a newer one",
                    figures.number,
                    Span(age_s)
                ),
                "Check whether the peers are on the right chain and whether it is made on at all.",
            ),
            (Some(standing), None) => match own.and_then(|own| missing_own(figures, standing, own))
            {
                Some(cause) => (
                    State::NotSealing,
                    cause,
                    "Read this node's log; check its key or its signer, its clock and its peers.",
                ),
                None => (State::Ok, going_on(figures, Some(standing), now_s), ""),
            },
            (None, None) => (State::Ok, going_on(figures, None, now_s), ""),
        };
        Health {
            state,
            healthy: state == State::Ok,
            cause,
            advice,
        }
    }
}

fn is_alone(figures: &Figures) -> bool {
    figures.peers == 0 && figures.alone_s.is_none_or(|s| s >= ALONE_S)
}

/// Alone, only a node that is the chain's one signer knows what there is to know.
fn needs_others(standing: Option<&Standing>, own: Option<&Own>) -> bool {
    match (standing, own) {
        (Some(standing), Some(own)) => {
            !matches!(&standing.signers[..], [only] if only.address == own.signer)
        }
        _ => true,
    }
}

fn alone(figures: &Figures, now_s: u64) -> String {
    let age = Span(now_s.saturating_sub(figures.timestamp_s));
    let mut cause = format!(
        "nobody is connected, so this node cannot know whether the chain goes on; its head, block {}, is {age} old",
        figures.number
    );
    let standing = figures.standing.as_deref();
    if let Some(in_turn) = standing.and_then(Standing::in_turn) {
        let next = figures.number.saturating_add(1);
        let _ = write!(
            cause,
            ", and block {next} is the turn of {}",
            in_turn.address
        );
    }
    if let (Some(standing), Some(own)) = (standing, &figures.own) {
        let _ = write!(cause, "; {}", own_cause(standing, own));
    }
    cause
}

fn catching_up(figures: &Figures) -> String {
    if let Some(falling) = figures.falling {
        let of = falling
            .all
            .map_or_else(String::new, |all| format!(" of {all}"));
        return format!(
            "it fetches a better chain, and has {}{of} headers of it",
            falling.fetched
        );
    }
    let to = figures
        .target_number
        .map_or_else(String::new, |target| format!(" of {target}"));
    format!(
        "it fetches a better chain, and has block {}{to}",
        figures.reached
    )
}

fn starting(figures: &Figures, now_s: u64) -> String {
    let age = Span(now_s.saturating_sub(figures.timestamp_s));
    let mut cause = format!(
        "the node started {} ago, and its head, block {}, is {age} old: it cannot know yet whether the chain goes on",
        Span(figures.starting_s.unwrap_or_default()),
        figures.number
    );
    let standing = figures.standing.as_deref();
    if let Some(in_turn) = standing.and_then(Standing::in_turn) {
        let next = figures.number.saturating_add(1);
        let _ = write!(cause, "; block {next} is the turn of {}", in_turn.address);
    }
    cause
}

fn going_on(figures: &Figures, standing: Option<&Standing>, now_s: u64) -> String {
    let age = Span(now_s.saturating_sub(figures.timestamp_s));
    let mut cause = format!("the head is block {}, {age} old", figures.number);
    if let Some(standing) = standing {
        let missing: Vec<_> = standing.missing().collect();
        if !missing.is_empty() {
            let _ = write!(cause, "; {}", missed_by(standing, &missing, now_s));
        }
    }
    cause
}

/// What stands still, who should go on, who does not, and what this node's signer has to do with it.
fn stalled(standing: &Standing, own: Option<&Own>, now_s: u64) -> String {
    let head = &standing.head;
    let age = Span(now_s.saturating_sub(head.timestamp_s));
    let mut cause = format!("no block has come after block {} for {age}", head.number);
    if let Some(in_turn) = standing.in_turn() {
        let next = head.number.saturating_add(1);
        let _ = write!(cause, "; block {next} is the turn of {}", in_turn.address);
        if !in_turn.may_seal {
            cause.push_str(", which signed recently and must wait for others");
        }
    }
    let missing: Vec<_> = standing.missing().collect();
    let _ = write!(cause, "; {}", missed_by(standing, &missing, now_s));
    if let Some(own) = own {
        let _ = write!(cause, "; {}", own_cause(standing, own));
    }
    cause
}

fn missed_by(standing: &Standing, missing: &[&SignerStanding], now_s: u64) -> String {
    let (count, all) = (missing.len(), standing.signers.len());
    let is = if count == 1 { "is" } else { "are" };
    let needed = standing.needed;
    let mut text = format!("{count} of {all} signers {is} missing; ");
    let _ = match standing.cannot_go_on() {
        true => write!(
            text,
            "{needed} are needed, so the chain cannot go on without them"
        ),
        false => write!(text, "the chain goes on with {needed}"),
    };
    for (place, signer) in missing.iter().take(NAMED).enumerate() {
        let before = if place == 0 { ": " } else { ", " };
        let _ = write!(text, "{before}{} ({})", signer.address, last(signer, now_s));
    }
    if count > NAMED {
        let _ = write!(text, " and {} more", count - NAMED);
    }
    text
}

/// What this signer sealed last, and how long ago.
pub(crate) fn last(signer: &SignerStanding, now_s: u64) -> String {
    match signer.last {
        Some(made) => format!(
            "its last block was {}, {} ago",
            made.number,
            Span(now_s.saturating_sub(made.timestamp_s))
        ),
        None => format!("none of the last {LOOK_BACK} blocks is its own"),
    }
}

/// Why this node's signer does not seal the next block.
fn own_cause(standing: &Standing, own: &Own) -> String {
    let (head, signer) = (standing.head.number, own.signer);
    let next = head.saturating_add(1);
    let why = match standing.of(&signer) {
        None => "is none of the chain's",
        Some(of) if !of.may_seal => "signed recently and must wait for others",
        Some(_) if own.unsigned == Some(next) => "gives no signature",
        Some(_) if own.parent != Some(head) => {
            "waits until it is known that there is nothing to catch up with"
        }
        Some(_) if own.sealed == Some(next) => "sealed a block that was not taken",
        Some(_) => "waits for the time to seal; is the clock right?",
    };
    format!("this node's signer {signer} {why}")
}

fn advice(standing: &Standing, own: Option<&Own>) -> &'static str {
    let is_own = |address: &Address| own.is_some_and(|own| own.signer == *address);
    let mut missing = standing.missing();
    match missing.any(|signer| is_own(&signer.address)) {
        true => {
            "This node's own signer is one of them: read its log, and check its key or its signer, and its clock."
        }
        false => {
            "Check the machines of the missing signers, their clocks, and the network between."
        }
    }
}

/// That this node's signer is missing although the chain goes on, and why, as far as is known.
fn missing_own(figures: &Figures, standing: &Standing, own: &Own) -> Option<String> {
    let of = standing.of(&own.signer).filter(|of| of.is_missing)?;
    let mut cause = format!(
        "the chain goes on, but this node's signer {} has missed its last {} turns",
        of.address, of.turns_missed
    );
    let missed = figures.missed.get(&own.signer).copied().unwrap_or_default();
    for (turns, why) in [
        (missed.no_signature, "for want of a signature"),
        (missed.no_timely_parent, "for want of a timely parent"),
        (missed.sealed_late, "because others were quicker"),
    ] {
        if turns > 0 {
            let _ = write!(cause, "; since the start {turns} {why}");
        }
    }
    Some(cause)
}

#[cfg(test)]
mod tests;
