//! Receipts in both forms: written as they were read, and back from the other form as the very bytes.
#![no_main]

use cairn::chain::receipts::{Form, Receipts, convert};
use cairn_fuzz::input::Input;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let (form, other) = input.of(&[(Form::Eth68, Form::Eth69), (Form::Eth69, Form::Eth68)]);
    let raw = input.0;
    let receipts = match Receipts::decode(form, raw) {
        Ok(receipts) => receipts,
        Err(error) => {
            assert!(convert(form, other, raw).is_err() && !error.to_string().is_empty());
            return;
        }
    };
    assert_eq!(receipts.encode(form), raw);
    let converted = receipts.encode(other);
    let again = Receipts::decode(other, &converted).expect("the other form is one");
    assert_eq!(again.encode(form), raw);
    assert_eq!(
        (again.root(), again.logs_bloom()),
        (receipts.root(), receipts.logs_bloom())
    );
    assert_eq!(
        (again.len(), again.gas_used()),
        (receipts.len(), receipts.gas_used())
    );
});
