//! Why we end a connection, and the one place that says what that means: the reason the peer is told, and what it weighs.
//!
//! | cause | whose | reason told | weight |
//! | --- | --- | --- | --- |
//! | `Quitting`, `Requested` | ours | 0x08, 0x00 | 0 |
//! | `SelfConnect`, `AlreadyConnected`, `TooManyPeers` | nobody's | 0x0a, 0x05, 0x04 | 0 |
//! | `Banned` | paid for already | 0x03 useless peer | 0 |
//! | `OldP2p`, `NoCommonEth`, `OtherChain` | nobody's | 0x06, 0x03, 0x10 | 0 |
//! | `Silence`, `NoAnswer` | the network's, for all we know | 0x0b timeout | 0 |
//! | `BadHandshake` | the address's: nobody has proven an id | none can be told | 10 |
//! | `BrokenLink` | the peer's: frames, snappy, p2p, message ids | 0x02 breach of protocol | 25 |
//! | `BadMessage` | the peer's: malformed, too long or out of place in eth | 0x10 subprotocol error | 25 |
//! | `EmptyClaims` | the peer's: claims a better chain and never has it | 0x03 useless peer | 25 |
//! | `WrongAnswer` | the peer's: to nothing that was asked, or too much | 0x10 subprotocol error | 50 |
//! | `FalseIdentity` | the peer's: its Hello names another node | 0x09 unexpected identity | 50 |
//! | `FalseData` | the peer's: it was shown to lie | 0x10 subprotocol error | 100 |
//!
//! What weighs is counted in [`scores`](crate::scores). A connection that ends by itself or by its peer weighs nothing: trouble of the
//! network is never malice.

use crate::p2p::DisconnectReason;

/// Why we end a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The node stops.
    Quitting,
    /// We want to; also what we cannot help, such as an id that cannot be dialled.
    Requested,
    /// The node reached itself.
    SelfConnect,
    /// There is a connection to this node already.
    AlreadyConnected,
    /// No room.
    TooManyPeers,
    /// Its faults weighed too much, and its time is not over.
    Banned,
    /// A version of p2p that cannot be spoken.
    OldP2p,
    /// No version of eth in common.
    NoCommonEth,
    /// Another network, chain, or fork of it.
    OtherChain,
    /// Nothing came in time, or nothing was read.
    Silence,
    /// Nothing came to what was asked, again.
    NoAnswer,
    /// What came is no auth or ack.
    BadHandshake,
    /// RLPx or p2p were broken: a frame, its MAC, its snappy, a Hello, a message id.
    BrokenLink,
    /// A message of eth is malformed, too long, or not in its place.
    BadMessage,
    /// It claims a better chain again and again and never has it.
    EmptyClaims,
    /// An answer to nothing that was asked, with more than was asked for, or in another order.
    WrongAnswer,
    /// Its Hello names another node than the one whose key it has.
    FalseIdentity,
    /// Headers, bodies or receipts that are not what they are said to be.
    FalseData,
}

impl Cause {
    /// The reason that the peer is told.
    pub fn reason(self) -> DisconnectReason {
        match self {
            Cause::Quitting => DisconnectReason::Quitting,
            Cause::Requested => DisconnectReason::Requested,
            Cause::SelfConnect => DisconnectReason::SelfConnect,
            Cause::AlreadyConnected => DisconnectReason::AlreadyConnected,
            Cause::TooManyPeers => DisconnectReason::TooManyPeers,
            Cause::Banned | Cause::NoCommonEth | Cause::EmptyClaims => {
                DisconnectReason::UselessPeer
            }
            Cause::OldP2p => DisconnectReason::IncompatibleVersion,
            Cause::Silence | Cause::NoAnswer => DisconnectReason::Timeout,
            Cause::BadHandshake | Cause::BrokenLink => DisconnectReason::ProtocolBreach,
            Cause::OtherChain | Cause::BadMessage | Cause::WrongAnswer | Cause::FalseData => {
                DisconnectReason::Subprotocol
            }
            Cause::FalseIdentity => DisconnectReason::UnexpectedIdentity,
        }
    }

    /// What it weighs, in hundredths of a ban.
    pub fn weight(self) -> u32 {
        match self {
            Cause::Quitting
            | Cause::Requested
            | Cause::SelfConnect
            | Cause::AlreadyConnected
            | Cause::TooManyPeers
            | Cause::Banned
            | Cause::OldP2p
            | Cause::NoCommonEth
            | Cause::OtherChain
            | Cause::Silence
            | Cause::NoAnswer => 0,
            Cause::BadHandshake => 10,
            Cause::BrokenLink | Cause::BadMessage | Cause::EmptyClaims => 25,
            Cause::WrongAnswer | Cause::FalseIdentity => 50,
            Cause::FalseData => 100,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::BAN_SCORE;

    /// How many of a fault are a ban, `None` for one that never is: what the limits promise of each kind.
    #[test]
    fn a_proved_lie_is_a_ban_a_message_that_is_none_a_quarter_and_trouble_of_the_network_nothing() {
        let bans_after =
            |cause: Cause| (cause.weight() > 0).then(|| BAN_SCORE.div_ceil(cause.weight()));
        for (causes, expected) in [
            (&[Cause::FalseData][..], Some(1)),
            (&[Cause::WrongAnswer, Cause::FalseIdentity], Some(2)),
            (
                &[Cause::BrokenLink, Cause::BadMessage, Cause::EmptyClaims],
                Some(4),
            ),
            (&[Cause::BadHandshake], Some(10)),
            (
                &[
                    Cause::Silence,
                    Cause::NoAnswer,
                    Cause::OtherChain,
                    Cause::NoCommonEth,
                    Cause::OldP2p,
                    Cause::TooManyPeers,
                    Cause::AlreadyConnected,
                    Cause::SelfConnect,
                    Cause::Banned,
                    Cause::Quitting,
                    Cause::Requested,
                ],
                None,
            ),
        ] {
            for cause in causes {
                assert_eq!(bans_after(*cause), expected, "{cause:?}");
            }
        }
    }
}
