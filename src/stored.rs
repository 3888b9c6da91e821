//! The state of the stored chain: all that is needed to judge the children of its head, or of another of its blocks.

use cairn_store::{Snapshot, Writer};

use crate::chain::{HeaderError, Rules, Tip};
use crate::node::NodeError;
use crate::snapshots::Kept;

/// The head that the store has, with all that is needed to judge its children.
///
/// # Errors
/// `Start` if the stored headers cannot be read or do not obey their own chain's rules.
pub fn stored_tip(rules: &Rules, writer: &Writer, kept: &Kept) -> Result<Tip, NodeError> {
    let snapshot = writer.reader().snapshot();
    tip_at(rules, &snapshot, snapshot.head().number, kept)
}

/// Canonical block `number`, which must be stored, with all that is needed to judge its children. `kept` are snapshots of this chain.
///
/// # Errors
/// As [`stored_tip`].
pub fn tip_at(
    rules: &Rules,
    snapshot: &Snapshot,
    number: u64,
    kept: &Kept,
) -> Result<Tip, NodeError> {
    match restore(rules, snapshot, number, kept) {
        Err(error) => Err(NodeError::Start(error.to_string())),
        Ok(Ok(tip)) => Ok(tip),
        Ok(Err(HeaderError::Missing { number: missing })) if missing < snapshot.first_header() => {
            let first = snapshot.first_header();
            Err(NodeError::Start(
                match rules.spec.clique.is_some() && number == snapshot.head().number {
                    true => format!(
                        "this data folder was to begin at a checkpoint, and was cut short before it was there (block {missing} is missing, and \
                         so it is not known who may seal): start it with the same --checkpoint again"
                    ),
                    false => format!(
                        "nothing is known after block {number}: this data folder begins with block {first}, and block {missing} is missing"
                    ),
                },
            ))
        }
        Ok(Err(error)) => Err(NodeError::Start(format!(
            "the stored chain breaks its own rules ({error}); check it with `cairn-store verify`"
        ))),
    }
}

/// The same, by what went wrong: the store, or what is in it.
pub(crate) fn restore(
    rules: &Rules,
    snapshot: &Snapshot,
    number: u64,
    kept: &Kept,
) -> Result<Result<Tip, HeaderError>, cairn_store::Error> {
    let head = snapshot.head();
    let td = match number == head.number {
        true => Some(head.td),
        false => snapshot.td(number)?,
    };
    let Some(td) = td else {
        return Ok(Err(HeaderError::Missing { number }));
    };
    let (mut failed, mut headers) = (None, 0_u64);
    let kept = kept.before(number, rules.spec.clique_epoch());
    let tip = rules.restore(number, td, kept, &mut |number| {
        headers += 1;
        match snapshot.header(number) {
            Ok(record) => record.map(|raw| bytes::Bytes::copy_from_slice(&raw)),
            Err(error) => {
                failed = Some(error);
                None
            }
        }
    });
    log::debug!(
        "Rebuilt the chain's state number={number} kept={} headers={headers}",
        kept.map_or_else(|| "none".to_owned(), |kept| kept.number.to_string())
    );
    failed.map_or(Ok(tip), Err)
}
