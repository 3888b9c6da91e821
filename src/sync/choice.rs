//! The choice between two heads: total difficulty, and EIP-3436 where that is equal.

use std::cmp::Ordering;

use crate::chain::Tip;

/// Whether a chain that ends in `new` is to be preferred to one that ends in `old`.
///
/// The greater total difficulty; of equals on a clique chain (EIP-3436) the lower number, then the head whose signer's turn is
/// furthest off, then the lower hash: every node chooses alike, so that signers who are split over equal branches do not wait
/// for each other for ever.
pub(crate) fn is_better(new: &Tip, old: &Tip) -> bool {
    compare(new, old) == Ordering::Greater
}

/// The same as an order: the greater is preferred.
pub(super) fn compare(new: &Tip, old: &Tip) -> Ordering {
    let by_td = new.td.cmp(&old.td);
    if by_td != Ordering::Equal || new.clique.is_none() {
        return by_td;
    }
    let number = |tip: &Tip| tip.header.header.number;
    number(old)
        .cmp(&number(new))
        .then_with(|| distance(new).cmp(&distance(old)))
        .then_with(|| old.header.hash.cmp(&new.header.hash))
}

/// `(number - index of the signer) mod signers` of the head, of which the EIP has the largest chosen: 0 is a head in turn. "Current
/// validators" are taken to be those after the head, as Besu takes them. `None`, the least, for a head without a signer (block 0) and one whose signer
/// put itself out, of which the EIP says nothing.
fn distance(tip: &Tip) -> Option<u64> {
    let snapshot = tip.clique.as_ref()?;
    let signer = tip.header.signer().ok()?;
    let signers = snapshot.signers();
    let index = signers.iter().position(|address| *address == signer)?;
    let count = signers.len() as u64;
    let number = tip.header.header.number % count;
    Some((number + count - index as u64) % count)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use alloy_consensus::Header;
    use alloy_primitives::{Address, Bytes, U256};

    use super::*;
    use crate::chain::{SealedHeader, clique};

    /// A head: its total difficulty, its number, who sealed it, and who may seal after it.
    type Head = (u64, u64, u8, &'static [u8]);

    const FOUR: &[u8] = &[10, 11, 12, 13];

    fn tip((td, number, signer, signers): Head, salt: u64) -> Tip {
        let signers: Vec<_> = signers.iter().copied().map(Address::repeat_byte).collect();
        let listing = SealedHeader::from_header(Header {
            extra_data: Bytes::from(clique::extra("", &signers)),
            ..Header::default()
        });
        let header = Header {
            number,
            timestamp: salt,
            ..Header::default()
        };
        Tip {
            header: Arc::new(SealedHeader::to_be_sealed(
                header,
                Address::repeat_byte(signer),
            )),
            td: U256::from(td),
            clique: Some(Arc::new(clique::Snapshot::genesis(&listing).unwrap())),
        }
    }

    fn is_chosen(new: &Tip, old: &Tip) -> bool {
        assert_eq!(compare(new, old), compare(old, new).reverse());
        is_better(new, old)
    }

    /// The numbers in the comments are the EIP's formula, worked out by hand: `(number - index) mod 4`.
    #[test]
    fn each_clause_of_eip_3436_outweighs_all_that_come_after_it() {
        let rows: &[(&str, Head, Head)] = &[
            // The other is lower, and at 3; this one is in turn.
            (
                "1: most total difficulty",
                (12, 8, 10, FOUR),
                (11, 7, 10, FOUR),
            ),
            // The other is at 1, this one in turn.
            ("2: lowest number", (12, 7, 13, FOUR), (12, 8, 13, FOUR)),
            ("3: at 3, against 2", (12, 6, 13, FOUR), (12, 6, 10, FOUR)),
            ("3: at 2, against 1", (12, 6, 10, FOUR), (12, 6, 11, FOUR)),
            (
                "3: at 1, against in turn",
                (12, 6, 11, FOUR),
                (12, 6, 12, FOUR),
            ),
            // Below the number of signers it is still a remainder from 0 up.
            (
                "3: at 3 of (1 - 2), against 2 of (1 - 3)",
                (4, 1, 12, FOUR),
                (4, 1, 13, FOUR),
            ),
            (
                "3: at 2 of (1 - 3), against 1 of (1 - 0)",
                (4, 1, 13, FOUR),
                (4, 1, 10, FOUR),
            ),
            // The EIP's second example of a network that stood still: of eight, who are named 1 to 8, 7 sealed block 14 in its turn; then
            // 1, 3 and 5 sealed on one branch, 2, 4 and 6 on the other. (17 - 4) mod 8 is 5, (17 - 5) mod 8 is 4.
            (
                "3: the EIP's example",
                (30, 17, 5, &[1, 2, 3, 4, 5, 6, 7, 8]),
                (30, 17, 6, &[1, 2, 3, 4, 5, 6, 7, 8]),
            ),
            // Over one parent: one head votes a fifth signer in, at place 0, so that its own is at (6 - 2) mod 5 = 4; of four it was at 1.
            (
                "3: by the signers after the head",
                (12, 6, 11, &[9, 10, 11, 12, 13]),
                (12, 6, 13, FOUR),
            ),
            // In turn, against one who put itself out.
            (
                "3: a signer, against none",
                (12, 6, 12, FOUR),
                (12, 6, 14, FOUR),
            ),
        ];
        for &(clause, chosen, other) in rows {
            let other = tip(other, 0);
            // Both ways of the hashes, which decide nothing here.
            for is_lower in [true, false] {
                let mut salts = (1..).map(|salt| tip(chosen, salt));
                let chosen = salts.find(|tip| (tip.header.hash < other.header.hash) == is_lower);
                let chosen = chosen.unwrap();
                assert!(is_chosen(&chosen, &other), "{clause}");
                assert!(!is_chosen(&other, &chosen), "{clause}");
            }
        }
        let [a, b] = [0, 1].map(|salt| tip((12, 6, 11, FOUR), salt));
        let lower = U256::from_be_bytes(a.header.hash.0) < U256::from_be_bytes(b.header.hash.0);
        assert_eq!(is_chosen(&a, &b), lower, "4: lowest hash");
        assert_eq!(is_chosen(&b, &a), !lower, "4: lowest hash");
        assert!(!is_chosen(&a, &a), "the same");
    }

    #[test]
    fn of_equals_that_are_not_cliques_the_first_stays() {
        let of = |td, number, salt| Tip {
            clique: None,
            ..tip((td, number, 11, FOUR), salt)
        };
        for (new, old) in [(of(12, 6, 0), of(12, 7, 1)), (of(12, 7, 1), of(12, 6, 0))] {
            assert!(!is_chosen(&new, &old));
        }
        assert!(is_chosen(&of(13, 7, 0), &of(12, 6, 1)));
    }
}
