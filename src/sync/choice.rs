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

/// `(number - index of the signer) mod signers` of the head; `None`, the least, for a head without a signer (block 0).
fn distance(tip: &Tip) -> Option<u64> {
    let snapshot = tip.clique.as_ref()?;
    let signer = tip.header.signer().ok()?;
    let signers = snapshot.signers();
    let index = signers.iter().position(|address| *address == signer)?;
    let count = signers.len() as u64;
    let number = tip.header.header.number % count;
    Some((number + count - index as u64) % count)
}
