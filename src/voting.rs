//! The command `cairn clique`: asks a running node who seals and votes, tells it what to vote for, and shows what it said.

use std::fmt::Write as _;
use std::path::Path;

use alloy_primitives::Address;
use serde_json::{Value, json};

use crate::cli::CliqueCommand;
use crate::ipc::{self, CallError};

/// What there is to print.
#[derive(Debug)]
pub struct Shown {
    /// For programs.
    pub json: Value,
    /// For people.
    pub text: String,
}

/// Does `command` with the node whose control socket is `socket`.
///
/// # Errors
/// The node cannot be asked, or refuses and says why.
pub fn run(socket: &Path, command: &CliqueCommand) -> Result<Shown, CallError> {
    let ask = |method: &str, params: Value| ipc::call(socket, method, &params);
    match command {
        CliqueCommand::Status => {
            let at = ask("clique_getSnapshot", json!([]))?;
            let activity = ask("clique_status", json!([]))?;
            let proposals = ask("clique_proposals", json!([]))?;
            let own = ask("cairn_status", json!([]))?["signer"].take();
            Ok(status(&at, &activity, proposals, own))
        }
        CliqueCommand::Signers => {
            let json = ask("clique_getSigners", json!([]))?;
            let text = addresses(&json).iter().map(|a| format!("{a}\n")).collect();
            Ok(Shown { json, text })
        }
        CliqueCommand::Checkpoint => {
            let json = ask("cairn_checkpoint", json!([]))?;
            let text = |field: &str| json[field].as_str().unwrap_or_default();
            let text = format!("{}:{}:{}\n", json["number"], text("hash"), text("td"));
            Ok(Shown { json, text })
        }
        CliqueCommand::Proposals => {
            let json = ask("clique_proposals", json!([]))?;
            let mut text = proposed(&json);
            if text.is_empty() {
                text.push_str("This node votes for nothing.\n");
            }
            Ok(Shown { json, text })
        }
        CliqueCommand::Propose { address, auth, .. } => {
            ask("clique_propose", json!([address.to_string(), auth]))?;
            let signers = addresses(&ask("clique_getSigners", json!([]))?);
            let own = ask("cairn_status", json!([]))?["signer"].take();
            let own = own.as_str().and_then(|own| own.parse().ok());
            Ok(propose(*address, *auth, &signers, own))
        }
        CliqueCommand::Discard { address } => {
            let proposals = ask("clique_proposals", json!([]))?;
            if proposals.get(format!("{address:#x}")).is_none() {
                return Err(CallError::Refused(format!(
                    "this node votes for nothing about {address}; `cairn clique proposals` shows what it votes for"
                )));
            }
            ask("clique_discard", json!([address.to_string()]))?;
            Ok(Shown {
                json: json!({ "discarded": address.to_string() }),
                text: format!("No more votes on {address}. Those that were sealed stand.\n"),
            })
        }
    }
}

fn propose(target: Address, authorise: bool, signers: &[Address], own: Option<Address>) -> Shown {
    let needed = signers.len() / 2 + 1;
    let is_signer = signers.contains(&target);
    let what = if authorise { "let in" } else { "put out" };
    let mut text = format!("Voting to {what} {target}.\n");
    if is_signer == authorise {
        let is = if is_signer { "a" } else { "no" };
        writeln!(
            text,
            "It is {is} signer now, so there is nothing to vote on: the vote is cast when that changes."
        )
    } else {
        let of = signers.len();
        writeln!(
            text,
            "{needed} of {of} signers must vote so; `cairn clique status` shows how many do. A restart forgets it."
        )
    }
    .expect("text takes all of it");
    // Without any signer the node has refused.
    let stranger = own.filter(|own| !signers.contains(own));
    if let Some(own) = stranger {
        text.push_str(&format!(
            "But this node's {own} is none of the chain's signers now, so no vote is cast until it is one.\n"
        ));
    }
    Shown {
        json: json!({
            "target": target.to_string(),
            "authorise": authorise,
            "is_signer": is_signer,
            "signers": signers.len(),
            "needed": needed,
            "own_is_signer": stranger.is_none(),
        }),
        text,
    }
}

fn status(at: &Value, activity: &Value, proposals: Value, own: Value) -> Shown {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let signers = addresses_in(&at["signers"]);
    let sealed = &activity["sealerActivity"];
    let last = number(&activity["numBlocks"]);
    let mut text = format!(
        "Head      {} {}\nSigners   {}, of which {} decide a vote; {:.0} % of the last {last} blocks were sealed in turn\n",
        at["number"],
        at["hash"].as_str().unwrap_or_default(),
        signers.len(),
        signers.len() / 2 + 1,
        activity["inturnPercent"].as_f64().unwrap_or(0.0),
    );
    for signer in &signers {
        let blocks = number(&sealed[format!("{signer:#x}")]);
        let this = match own.as_str() == Some(&signer.to_string()) {
            true => ", this node",
            false => "",
        };
        text.push_str(&format!("  {signer} sealed {blocks}{this}\n"));
    }
    let votes = at["votes"].as_array().map_or(&[][..], Vec::as_slice);
    text.push_str(&format!("Votes     {} open\n", votes.len()));
    for vote in votes {
        let is_for = vote["authorize"] == true;
        text.push_str(&format!(
            "  {} to {} {} in block {}\n",
            checksummed(&vote["signer"]),
            if is_for { "let in" } else { "put out" },
            checksummed(&vote["address"]),
            vote["block"],
        ));
    }
    let proposed = proposed(&proposals);
    if !proposed.is_empty() {
        text.push_str("This node votes to\n");
        text.push_str(&proposed);
    }
    Shown {
        json: json!({
            "snapshot": at,
            "activity": activity,
            "proposals": proposals,
            "signer": own,
        }),
        text,
    }
}

/// A line for each proposal.
fn proposed(proposals: &Value) -> String {
    let all = proposals.as_object().into_iter().flatten();
    let line = |(target, to): (&String, &Value)| {
        let what = if *to == true { "let in" } else { "put out" };
        format!("  {what} {}\n", checksummed(&json!(target)))
    };
    all.map(line).collect()
}

fn addresses(list: &Value) -> Vec<Address> {
    let all = list.as_array().into_iter().flatten();
    all.filter_map(|value| value.as_str()?.parse().ok())
        .collect()
}

fn addresses_in(object: &Value) -> Vec<Address> {
    let all = object.as_object().into_iter().flatten();
    all.filter_map(|(key, _)| key.parse().ok()).collect()
}

/// For people, with the letters' case that checks an address (EIP-55).
fn checksummed(address: &Value) -> String {
    let text = address.as_str().unwrap_or_default();
    text.parse()
        .map_or_else(|_| text.to_owned(), |of: Address| of.to_string())
}
