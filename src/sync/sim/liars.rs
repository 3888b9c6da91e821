//! What a simulated peer does to an honest answer.

use std::sync::Arc;

use bytes::Bytes;
use cairn_net::eth::message::{Message, Request};

use super::Dice;
use super::peer::SimPeer;
use crate::chain::SealedHeader;

/// The ways to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    /// Answers a few times, then never again.
    Silent,
    /// Answers headers, and of bodies nothing ever.
    SilentOnBodies,
    /// A header whose seal is another's.
    BadSeal,
    /// Headers that do not link among themselves.
    BadLink,
    /// Headers that link among themselves but to nothing of ours.
    OwnChain,
    /// Bytes that are no headers.
    Garbage,
    /// Bodies of other blocks.
    OtherBody,
    /// Bodies cut short.
    CutBody,
    /// Nothing, whatever is asked.
    Empty,
    /// Headers, but no bodies.
    NoBodies,
    /// More than was asked.
    TooMany,
    /// Bodies twice.
    TwoBodies,
    /// Headers the other way round.
    OutOfOrder,
    /// Ids that were never given.
    UnknownId,
    /// Bodies for headers and headers for bodies.
    WrongKind,
    /// A head far beyond everything, and nothing behind it.
    Boast,
    /// The same, and a true chain up to where it ends.
    BoastAndServe,
    /// A head far beyond everything, nothing behind it, and another such head after each empty answer, which is late.
    BoastAgain,
    /// Everything, but late.
    Late,
    /// Everything, but late, and one item at a time.
    Drip,
    /// Everything but receipts, for which it never answers.
    SilentOnReceipts,
    /// Everything but receipts, of which it has none.
    NoReceipts,
    /// Receipts of other blocks.
    OtherReceipts,
    /// Receipts cut short without saying so.
    ShortReceipts,
    /// Bytes that are no receipts.
    GarbageReceipts,
    /// More receipts than were asked for.
    TooManyReceipts,
    /// Receipts under ids that were never given.
    UnknownReceipts,
    /// Says of each block that more is to come, and gives none.
    CutBeforeFirst,
    /// Says of each block that more is to come, and gives the same receipt for ever.
    Endless,
}

impl Lie {
    pub(super) const ALL: [Lie; 19] = [
        Lie::Silent,
        Lie::SilentOnBodies,
        Lie::BadSeal,
        Lie::BadLink,
        Lie::OwnChain,
        Lie::Garbage,
        Lie::OtherBody,
        Lie::CutBody,
        Lie::Empty,
        Lie::NoBodies,
        Lie::TooMany,
        Lie::OutOfOrder,
        Lie::UnknownId,
        Lie::WrongKind,
        Lie::Boast,
        Lie::BoastAndServe,
        Lie::BoastAgain,
        Lie::Late,
        Lie::Drip,
    ];

    /// Any of them.
    pub(super) fn any(dice: &mut Dice) -> Lie {
        Lie::ALL[pick(dice, Lie::ALL.len())]
    }

    /// How long it keeps an answer: a little less than anybody is given.
    pub(super) fn delay_ms(self) -> u64 {
        match self {
            Lie::BoastAgain | Lie::Late | Lie::Drip => 9_400,
            _ => 0,
        }
    }

    /// What is done to receipts alone.
    pub(super) const ON_RECEIPTS: [Lie; 9] = [
        Lie::SilentOnReceipts,
        Lie::NoReceipts,
        Lie::OtherReceipts,
        Lie::ShortReceipts,
        Lie::GarbageReceipts,
        Lie::TooManyReceipts,
        Lie::UnknownReceipts,
        Lie::CutBeforeFirst,
        Lie::Endless,
    ];

    /// Its Status claims more than it has.
    pub(super) fn boasts(self) -> bool {
        matches!(
            self,
            Lie::Boast | Lie::BoastAndServe | Lie::BoastAgain | Lie::Empty
        )
    }

    /// One that must be dropped sooner or later if it is asked at all: the others only fail to help.
    pub(super) fn is_provable(self) -> bool {
        !matches!(
            self,
            Lie::Empty
                | Lie::NoBodies
                | Lie::Boast
                | Lie::BoastAndServe
                | Lie::BoastAgain
                | Lie::Late
                | Lie::Drip
                | Lie::Silent
                | Lie::SilentOnBodies
                | Lie::SilentOnReceipts
                | Lie::NoReceipts
        )
    }

    /// The lie in place of the honest answer; `None` for silence.
    pub(super) fn answer(
        self,
        peer: &SimPeer,
        id: u64,
        request: &Request,
        dice: &mut Dice,
    ) -> Option<Message> {
        let honest = peer.answer(id, request);
        Some(match (self, honest) {
            (Lie::Silent, _) if peer.answered >= 3 => return None,
            (Lie::SilentOnBodies, Message::Bodies { .. }) => return None,
            (Lie::BadSeal, Message::Headers { id, mut headers }) if !headers.is_empty() => {
                let at = pick(dice, headers.len());
                change(&mut headers, at, |header| {
                    let mut extra = header.extra_data.to_vec();
                    match extra.len() {
                        0 => header.state_root.0[0] ^= 1, // no seal to spoil
                        len => extra[len - 30] ^= 1,
                    }
                    header.extra_data = extra.into();
                });
                Message::Headers { id, headers }
            }
            (Lie::BadLink, Message::Headers { id, mut headers }) if headers.len() > 1 => {
                let at = 1 + pick(dice, headers.len() - 1);
                change(&mut headers, at, |header| header.parent_hash.0[3] ^= 1);
                Message::Headers { id, headers }
            }
            (Lie::OwnChain, Message::Headers { id, headers }) => {
                let falling = matches!(request, Request::Headers { reverse: true, .. });
                Message::Headers {
                    id,
                    headers: own_chain(headers, falling),
                }
            }
            (Lie::Garbage, Message::Headers { id, headers }) => Message::Headers {
                id,
                headers: headers.iter().map(|raw| raw.slice(1..)).collect(),
            },
            (Lie::OtherBody, Message::Bodies { id, bodies }) => {
                let other = |n: usize| peer.chain[1 + n % (peer.chain.len() - 1)].body.clone();
                let bodies = bodies.iter().map(|_| other(pick(dice, 1000))).collect();
                Message::Bodies { id, bodies }
            }
            (Lie::CutBody, Message::Bodies { id, mut bodies }) if !bodies.is_empty() => {
                let at = pick(dice, bodies.len());
                bodies[at] = bodies[at].slice(..bodies[at].len() - 1);
                Message::Bodies { id, bodies }
            }
            (Lie::Empty | Lie::Boast | Lie::BoastAgain, Message::Headers { id, .. }) => {
                Message::Headers {
                    id,
                    headers: Vec::new(),
                }
            }
            (
                Lie::Empty | Lie::Boast | Lie::BoastAgain | Lie::NoBodies,
                Message::Bodies { id, .. },
            ) => Message::Bodies {
                id,
                bodies: Vec::new(),
            },
            (Lie::Drip, Message::Headers { id, mut headers }) => {
                headers.truncate(1);
                Message::Headers { id, headers }
            }
            (Lie::Drip, Message::Bodies { id, mut bodies }) => {
                bodies.truncate(1);
                Message::Bodies { id, bodies }
            }
            (Lie::TooMany, Message::Headers { id, mut headers }) if !headers.is_empty() => {
                let Request::Headers { amount, .. } = request else {
                    unreachable!()
                };
                while headers.len() as u64 <= *amount {
                    headers.push(headers[0].clone());
                }
                Message::Headers { id, headers }
            }
            (Lie::TooMany, Message::Bodies { id, mut bodies }) if !bodies.is_empty() => {
                let Request::Bodies { hashes } = request else {
                    unreachable!()
                };
                while bodies.len() <= hashes.len() {
                    bodies.push(bodies[0].clone());
                }
                Message::Bodies { id, bodies }
            }
            (Lie::TwoBodies, Message::Bodies { id, bodies }) => {
                let bodies = bodies.iter().chain(&bodies).cloned().collect();
                Message::Bodies { id, bodies }
            }
            (Lie::OutOfOrder, Message::Headers { id, mut headers }) => {
                headers.reverse();
                Message::Headers { id, headers }
            }
            (Lie::UnknownId, Message::Headers { headers, .. }) => Message::Headers {
                id: id + 1_000_000,
                headers,
            },
            (Lie::UnknownId, Message::Bodies { bodies, .. }) => Message::Bodies {
                id: id + 1_000_000,
                bodies,
            },
            (Lie::WrongKind, Message::Headers { id, headers }) => Message::Bodies {
                id,
                bodies: headers,
            },
            (Lie::WrongKind, Message::Bodies { id, bodies }) => Message::Headers {
                id,
                headers: bodies,
            },
            (
                _,
                Message::Receipts {
                    id,
                    blocks,
                    last_is_cut,
                },
            ) => return self.receipts(peer, (id, blocks, last_is_cut), request, dice),
            (_, honest) => honest,
        })
    }

    fn receipts(
        self,
        peer: &SimPeer,
        (mut id, mut blocks, mut last_is_cut): (u64, Vec<Bytes>, bool),
        request: &Request,
        dice: &mut Dice,
    ) -> Option<Message> {
        let Request::Receipts { hashes, .. } = request else {
            unreachable!()
        };
        let one = || Bytes::from_static(&[0xc5, 0xc4, 0x80, 0x01, 0x01, 0xc0]);
        match self {
            Lie::SilentOnReceipts => return None,
            Lie::NoReceipts => {
                (blocks, last_is_cut) = (Vec::new(), false);
            }
            Lie::OtherReceipts if !blocks.is_empty() => {
                let at = pick(dice, blocks.len());
                blocks[at] = one();
                last_is_cut = false;
            }
            Lie::ShortReceipts => {
                for block in &mut blocks {
                    *block = if peer.eth == 68 {
                        Bytes::from_static(&[0xc0])
                    } else {
                        one()
                    };
                }
                last_is_cut = false;
            }
            Lie::GarbageReceipts => {
                let garbage = Bytes::from_static(&[0xc2, 0x01, 0x02]);
                blocks = blocks.iter().map(|_| garbage.clone()).collect();
            }
            Lie::TooManyReceipts if !blocks.is_empty() => {
                while blocks.len() <= hashes.len() {
                    blocks.push(blocks[0].clone());
                }
            }
            Lie::UnknownReceipts => id += 1_000_000,
            Lie::CutBeforeFirst if peer.eth >= 70 => {
                (blocks, last_is_cut) = (vec![Bytes::from_static(&[0xc0])], true);
            }
            Lie::Endless if peer.eth >= 70 => (blocks, last_is_cut) = (vec![one()], true),
            _ => {}
        }
        Some(Message::Receipts {
            id,
            blocks,
            last_is_cut,
        })
    }
}

fn pick(dice: &mut Dice, n: usize) -> usize {
    usize::try_from(dice.below(n as u64)).unwrap()
}

fn change(headers: &mut [Bytes], at: usize, change: impl Fn(&mut alloy_consensus::Header)) {
    let mut header = SealedHeader::decode(headers[at].clone()).unwrap().header;
    change(&mut header);
    headers[at] = SealedHeader::from_header(header).raw;
}

/// Headers that link among themselves and hang on nothing.
fn own_chain(mut headers: Vec<Bytes>, falling: bool) -> Vec<Bytes> {
    if falling {
        headers.reverse();
    }
    let mut parent = None;
    for raw in &mut headers {
        let mut header = SealedHeader::decode(raw.clone()).unwrap().header;
        header.state_root.0[0] ^= 1;
        header.parent_hash = parent.unwrap_or(header.parent_hash);
        if parent.is_none() {
            header.parent_hash.0[0] ^= 1;
        }
        let sealed = Arc::new(SealedHeader::from_header(header));
        parent = Some(sealed.hash);
        *raw = sealed.raw.clone();
    }
    if falling {
        headers.reverse();
    }
    headers
}
