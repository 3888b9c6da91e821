use std::sync::Arc;

use super::*;
use crate::standing::{Made, Missed};

const NOW_S: u64 = 10_000;

fn signer(byte: u8, may_seal: bool, is_missing: bool) -> SignerStanding {
    SignerStanding {
        address: Address::repeat_byte(byte),
        last: Some(Made {
            number: 90,
            timestamp_s: NOW_S - 300,
        }),
        turns_missed: if is_missing { 5 } else { 0 },
        in_turn: byte == 2,
        may_seal,
        is_missing,
    }
}

fn figures(signers: Vec<SignerStanding>) -> Figures {
    let standing = Standing {
        head: Made {
            number: 100,
            timestamp_s: NOW_S - 90,
        },
        stands_still: false,
        needed: signers.len() as u64 / 2 + 1,
        first: 1,
        signers,
    };
    Figures {
        number: 100,
        timestamp_s: NOW_S - 90,
        peers: 1,
        standing: Some(Arc::new(standing)),
        ..Figures::default()
    }
}

fn three(missing: [bool; 3]) -> Figures {
    let [one, two, three] = missing;
    figures(vec![
        signer(1, one, one),
        signer(2, two, two),
        signer(3, three, three),
    ])
}

fn own(signer: u8) -> Own {
    Own {
        signer: Address::repeat_byte(signer),
        parent: Some(100),
        sealed: Some(99),
        unsigned: None,
    }
}

#[track_caller]
fn is(figures: &Figures, state: State, says: &[&str]) {
    let health = Health::of(figures, NOW_S);
    assert_eq!(health.state, state, "{health:?}");
    assert_eq!(health.healthy, state == State::Ok);
    assert_eq!(health.advice.is_empty(), health.healthy);
    for what in says {
        assert!(health.cause.contains(what), "{what:?}: {}", health.cause);
    }
}

#[test]
fn a_chain_that_goes_on_is_well_and_names_the_minority_that_is_missing() {
    is(
        &three([false; 3]),
        State::Ok,
        &["block 100, 1 min 30 s old"],
    );
    let two = Address::repeat_byte(2).to_string();
    let says = [
        "1 of 3 signers is missing; the chain goes on with 2",
        &two,
        "its last block was 90, 5 min 0 s ago",
    ];
    is(&three([false, true, false]), State::Ok, &says);
}

#[test]
fn a_stall_says_who_is_next_who_is_missing_and_what_our_own_signer_does() {
    let mut figures = three([false, true, true]);
    figures.overdue_s = Some(90);
    let (one, two, three) = (1, 2, 3);
    let text = |byte: u8| Address::repeat_byte(byte).to_string();
    let turn = format!("block 101 is the turn of {}", text(two));
    let says = [
        "no block has come after block 100 for 1 min 30 s",
        &turn,
        "2 of 3 signers are missing; 2 are needed, so the chain cannot go on",
        &text(three),
    ];
    is(&figures, State::Stalled, &says);
    for (own, says) in [
        (own(one), "signed recently and must wait for others"),
        (own(two), "waits for the time to seal"),
        (own(9), "is none of the chain's"),
        (
            Own {
                unsigned: Some(101),
                ..own(two)
            },
            "gives no signature",
        ),
        (
            Own {
                parent: Some(99),
                ..own(two)
            },
            "nothing to catch up with",
        ),
        (
            Own {
                sealed: Some(101),
                ..own(two)
            },
            "was not taken",
        ),
    ] {
        figures.own = Some(own);
        is(&figures, State::Stalled, &[says]);
    }
}

#[test]
fn a_sentence_names_no_more_signers_than_can_be_read() {
    let signers = (1..=100).map(|byte| signer(byte, true, true)).collect();
    let mut figures = figures(signers);
    figures.overdue_s = Some(90);
    is(&figures, State::Stalled, &["100 of 100", "and 92 more"]);
    assert!(Health::of(&figures, NOW_S).cause.len() < 2_000);
}

#[test]
fn who_is_alone_knows_nothing_but_the_chains_only_signer_needs_nobody() {
    let mut alone = three([false, true, true]);
    (alone.peers, alone.overdue_s) = (0, Some(90));
    is(&alone, State::Alone, &["nobody is connected", "block 101"]);
    alone.own = Some(own(1));
    is(&alone, State::Alone, &["signed recently"]);
    let mut only = figures(vec![signer(1, true, false)]);
    only.peers = 0;
    is(&only, State::Alone, &[]);
    only.own = Some(own(1));
    is(&only, State::Ok, &[]);
    is(&Figures::default(), State::Alone, &[]);
}

#[test]
fn a_peer_that_is_started_again_leaves_nobody_alone() {
    let mut figures = three([false; 3]);
    (figures.peers, figures.alone_s) = (0, Some(ALONE_S - 1));
    is(&figures, State::Ok, &[]);
    figures.alone_s = Some(ALONE_S);
    is(&figures, State::Alone, &["nobody is connected"]);
}

#[test]
fn who_has_just_started_on_an_old_head_is_not_well_until_it_knows_more() {
    let mut figures = three([false; 3]);
    figures.starting_s = Some(12);
    let two = Address::repeat_byte(2).to_string();
    let says = [
        "started 12 s ago",
        "block 100, is 1 min 30 s old",
        "block 101 is the turn of",
        &two,
    ];
    is(&figures, State::Starting, &says);
    (figures.peers, figures.alone_s) = (0, None);
    is(&figures, State::Alone, &[]);
}

#[test]
fn a_catch_up_counts_when_it_is_more_than_a_moment() {
    let mut figures = three([false; 3]);
    figures.target_number = Some(200);
    figures.behind_s = Some(CATCHING_UP_S - 1);
    is(&figures, State::Ok, &[]);
    figures.behind_s = Some(CATCHING_UP_S);
    is(&figures, State::CatchingUp, &["of 200"]);
}

#[test]
fn peers_that_all_begin_above_our_head_are_told_of_whatever_else_is_so() {
    let mut figures = three([true; 3]);
    figures.overdue_s = Some(90);
    figures.begins_above = Some(8_192);
    is(
        &figures,
        State::CatchingUp,
        &["begin with block 8192", "head is block 100"],
    );
}

#[test]
fn a_chain_without_signers_can_only_be_stale() {
    let mut figures = Figures {
        peers: 1,
        ..Figures::default()
    };
    is(&figures, State::Ok, &[]);
    figures.overdue_s = Some(90);
    is(&figures, State::Stale, &["1 min 30 s old"]);
}

#[test]
fn a_validator_that_misses_its_turns_is_not_well_though_the_chain_goes_on() {
    let mut figures = three([false, true, false]);
    figures.own = Some(own(1));
    is(&figures, State::Ok, &[]);
    figures.own = Some(own(2));
    is(&figures, State::NotSealing, &["missed its last 5 turns"]);
    let missed = Missed {
        no_signature: 7,
        ..Missed::default()
    };
    figures.missed = Arc::new([(Address::repeat_byte(2), missed)].into());
    let says = "since the start 7 for want of a signature";
    is(&figures, State::NotSealing, &[says]);
}
