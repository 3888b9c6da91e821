//! Reading a list of receipts in place, in either form.

use alloy_primitives::{Bloom, BloomInput};

use super::{Form, RECEIPTS_LIMIT};
use crate::chain::error::Fault;
use crate::chain::rlp::{self, Item};

/// EIP-2718: types end before the first byte of a list.
const TYPE_LIMIT: u8 = 0x7f;
/// The EVM has LOG0 to LOG4.
const TOPICS_LIMIT: usize = 4;

/// One receipt, as slices of its list.
#[derive(Clone, Debug)]
pub(super) struct Receipt<'a> {
    /// The transaction's type (EIP-2718), 0 for a legacy one.
    pub(super) kind: u8,
    /// The status (EIP-658) or the state root before Byzantium, with its prefix.
    pub(super) outcome: &'a [u8],
    /// The cumulative gas with its prefix.
    pub(super) gas: &'a [u8],
    pub(super) cumulative_gas: u64,
    /// The list of logs with its prefix.
    pub(super) logs: &'a [u8],
    /// The bloom of the logs, if there are any.
    pub(super) bloom: Option<Box<Bloom>>,
}

type Read<T> = Result<T, Fault>;

/// Reads the whole of `raw`.
pub(super) fn list(form: Form, raw: &[u8]) -> Read<Vec<Receipt<'_>>> {
    let mut rest = raw;
    let mut items = rlp::list(&mut rest).map_err(|error| Fault::malformed("receipts", error))?;
    nothing_after(rest).map_err(|what| Fault::malformed("receipts", what))?;
    let mut list: Vec<Receipt<'_>> = Vec::new();
    let mut gas_before = 0;
    while !items.is_empty() {
        let index = list.len();
        let at = |mut fault: Fault| {
            fault.field = match fault.field.as_str() {
                "" => format!("receipts[{index}]"),
                field => format!("receipts[{index}].{field}"),
            };
            fault
        };
        if index == RECEIPTS_LIMIT {
            let most = format!("at most {RECEIPTS_LIMIT} receipts");
            return Err(Fault::mismatch("receipts", most, "more"));
        }
        let receipt = match form {
            Form::Eth68 => eth68(&mut items),
            Form::Eth69 => eth69(&mut items),
        }
        .map_err(at)?;
        if receipt.cumulative_gas < gas_before {
            let least = format!("at least {gas_before}, as much as the one before");
            let fault = Fault::mismatch("cumulativeGasUsed", least, receipt.cumulative_gas);
            return Err(at(fault));
        }
        gas_before = receipt.cumulative_gas;
        list.push(receipt);
    }
    Ok(list)
}

fn eth68<'a>(input: &mut &'a [u8]) -> Read<Receipt<'a>> {
    let item = rlp::item(input).map_err(malformed(""))?;
    let (kind, mut fields) = match item {
        Item {
            list: true,
            payload,
            ..
        } => (0, payload),
        Item { payload, .. } => typed(payload)?,
    };
    let input = &mut fields;
    let (outcome, gas, cumulative_gas) = outcome_and_gas(input)?;
    let bloom = rlp::array::<256>(input).map_err(malformed("logsBloom"))?;
    let receipt = last_field(input, kind, outcome, gas, cumulative_gas)?;
    let expected = receipt.bloom.as_deref().unwrap_or(&Bloom::ZERO);
    match expected.data() == bloom {
        true => Ok(receipt),
        false => Err(Fault::mismatch("logsBloom", expected, Bloom::from(bloom))),
    }
}

/// The type of a typed receipt and the payload of its list.
fn typed(string: &[u8]) -> Read<(u8, &[u8])> {
    let Some((&kind, mut rest)) = string.split_first() else {
        return Err(Fault::mismatch("type", "one byte", "nothing"));
    };
    if kind == 0 || kind > TYPE_LIMIT {
        let expected = format!("1 to {TYPE_LIMIT}");
        return Err(Fault::mismatch("type", expected, kind));
    }
    let fields = rlp::list(&mut rest).map_err(malformed(""))?;
    nothing_after(rest).map_err(|what| Fault::malformed("", what))?;
    Ok((kind, fields))
}

fn eth69<'a>(input: &mut &'a [u8]) -> Read<Receipt<'a>> {
    let mut fields = rlp::list(input).map_err(malformed(""))?;
    let input = &mut fields;
    let kind = rlp::number(input).map_err(malformed("type"))?;
    let kind = u8::try_from(kind)
        .ok()
        .filter(|kind| *kind <= TYPE_LIMIT)
        .ok_or_else(|| Fault::mismatch("type", format_args!("0 to {TYPE_LIMIT}"), kind))?;
    let (outcome, gas, cumulative_gas) = outcome_and_gas(input)?;
    last_field(input, kind, outcome, gas, cumulative_gas)
}

fn outcome_and_gas<'a>(input: &mut &'a [u8]) -> Read<(&'a [u8], &'a [u8], u64)> {
    let outcome = rlp::item(input).map_err(malformed("status"))?;
    if outcome.list {
        return Err(Fault::malformed("status", "not a string"));
    }
    if !matches!(outcome.payload, [] | [1]) && outcome.payload.len() != 32 {
        return Err(Fault::mismatch(
            "status",
            "0, 1 or a state root of 32 bytes",
            format_args!("{} bytes", outcome.payload.len()),
        ));
    }
    let before = *input;
    let cumulative_gas = rlp::number(input).map_err(malformed("cumulativeGasUsed"))?;
    let gas = &before[..before.len() - input.len()];
    Ok((outcome.raw, gas, cumulative_gas))
}

/// The logs, after which nothing may follow.
fn last_field<'a>(
    input: &mut &'a [u8],
    kind: u8,
    outcome: &'a [u8],
    gas: &'a [u8],
    cumulative_gas: u64,
) -> Read<Receipt<'a>> {
    let logs = rlp::item(input).map_err(malformed("logs"))?;
    if !logs.list {
        return Err(Fault::malformed("logs", "not a list"));
    }
    nothing_after(input).map_err(|what| Fault::malformed("", what))?;
    Ok(Receipt {
        kind,
        outcome,
        gas,
        cumulative_gas,
        logs: logs.raw,
        bloom: bloom(logs.payload)?,
    })
}

/// The bloom of logs, each `[address, topics, data]`; `None` if there are none.
fn bloom(mut logs: &[u8]) -> Read<Option<Box<Bloom>>> {
    if logs.is_empty() {
        return Ok(None);
    }
    let mut bloom = Box::new(Bloom::ZERO);
    let mut index = 0;
    while !logs.is_empty() {
        let at = |field: &'static str| {
            move |error: alloy_rlp::Error| Fault::malformed(format!("logs[{index}]{field}"), error)
        };
        let mut fields = rlp::list(&mut logs).map_err(at(""))?;
        let address = rlp::array::<20>(&mut fields).map_err(at(".address"))?;
        bloom.accrue(BloomInput::Raw(address));
        let mut topics = rlp::list(&mut fields).map_err(at(".topics"))?;
        let mut count = 0;
        while !topics.is_empty() {
            let topic = rlp::array::<32>(&mut topics).map_err(at(".topics"))?;
            bloom.accrue(BloomInput::Raw(topic));
            count += 1;
        }
        if count > TOPICS_LIMIT {
            let field = format!("logs[{index}].topics");
            return Err(Fault::mismatch(
                field,
                format_args!("at most {TOPICS_LIMIT}"),
                count,
            ));
        }
        rlp::string(&mut fields).map_err(at(".data"))?;
        nothing_after(fields).map_err(|what| Fault::malformed(format!("logs[{index}]"), what))?;
        index += 1;
    }
    Ok(Some(bloom))
}

fn nothing_after(rest: &[u8]) -> Result<(), String> {
    match rest.len() {
        0 => Ok(()),
        bytes => Err(format!("{bytes} bytes after its last field")),
    }
}

fn malformed(field: &'static str) -> impl Fn(alloy_rlp::Error) -> Fault {
    move |error| Fault::malformed(field, error)
}
