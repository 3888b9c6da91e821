//! JSON-RPC 2.0, of bytes and values alone: requests and batches in, answers out.

use serde_json::{Value, json};

/// Requests in a batch.
const MAX_BATCH: usize = 100;
/// The answers to a batch together: a node's peers some times over.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// What can be asked.
pub trait Methods {
    /// Calls a method. `params` are those by position.
    ///
    /// # Errors
    /// What is wrong with the method's name or its parameters, or why it cannot be done now.
    fn call(&mut self, method: &str, params: &[Value]) -> Result<Value, RpcError>;

    /// What the calls since this was last asked have cost, in stored headers that were read for them: some 3 us each.
    fn take_work(&mut self) -> u64 {
        0
    }
}

/// Why a request has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcError {
    /// As JSON-RPC and EIP-1474 number them.
    pub code: i64,
    /// For people.
    pub message: String,
    /// For programs, where there is more to say.
    pub data: Option<Value>,
}

impl RpcError {
    /// Not a request (-32600).
    pub fn invalid(why: impl Into<String>) -> RpcError {
        RpcError::new(-32600, why)
    }

    /// No such method (-32601).
    pub fn no_method(method: &str) -> RpcError {
        let shown: String = method.chars().take(80).collect();
        RpcError::new(
            -32601,
            format!("the method {shown} does not exist/is not available"),
        )
    }

    /// Parameters that cannot be (-32602).
    pub fn params(why: impl Into<String>) -> RpcError {
        RpcError::new(-32602, why)
    }

    /// It cannot be done now (-32000).
    pub fn failed(why: impl Into<String>) -> RpcError {
        RpcError::new(-32000, why)
    }

    /// It would cost too much (-32005).
    pub fn limit(why: impl Into<String>) -> RpcError {
        RpcError::new(-32005, why)
    }

    fn new(code: i64, message: impl Into<String>) -> RpcError {
        RpcError {
            code,
            message: message.into(),
            data: None,
        }
    }

    /// The whole answer.
    pub fn answer(&self, id: &Value) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(data) = &self.data {
            error["data"] = data.clone();
        }
        json!({ "jsonrpc": "2.0", "id": id, "error": error })
    }
}

/// What the front of a client's bytes is.
#[derive(Debug, PartialEq)]
pub(crate) enum Taken {
    /// A whole value, which is taken off.
    Value(Value),
    /// No whole value yet.
    More,
    /// No JSON: the answer to it, after which nothing of this client can be understood.
    Broken(Value),
}

/// What a client has sent and has not been answered. However it is cut into pieces, each byte is looked at once to find where a
/// request ends, and once more to read it.
#[derive(Default)]
pub(crate) struct Input {
    bytes: Vec<u8>,
    /// How far they have been looked at.
    at: usize,
    /// Brackets and braces that are open there.
    depth: usize,
    is_in_string: bool,
    is_escaped: bool,
}

impl Input {
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes the first request or batch off.
    pub(crate) fn take(&mut self) -> Taken {
        let Some(end) = self.end() else {
            return Taken::More;
        };
        let read = serde_json::from_slice(&self.bytes[..end]);
        self.bytes.drain(..end);
        self.at = 0;
        match read {
            Ok(value) => Taken::Value(value),
            Err(error) => Taken::Broken(
                RpcError::new(-32700, format!("what came is no JSON: {error}"))
                    .answer(&Value::Null),
            ),
        }
    }

    /// Behind the bracket or brace that closes the first one, or behind the first byte that belongs to neither.
    fn end(&mut self) -> Option<usize> {
        while let Some(&byte) = self.bytes.get(self.at) {
            self.at += 1;
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.is_in_string => self.is_escaped = true,
                b'"' if self.depth > 0 => self.is_in_string = !self.is_in_string,
                _ if self.is_in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' if self.depth > 0 => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Some(self.at);
                    }
                }
                byte if self.depth > 0 || byte.is_ascii_whitespace() => {}
                _ => return Some(self.at),
            }
        }
        // White space between requests is not kept.
        if self.depth == 0 {
            self.bytes.clear();
            self.at = 0;
        }
        None
    }
}

/// Answers a request or a batch; `None` if nobody wants to hear of it.
pub(crate) fn answer(methods: &mut dyn Methods, request: Value) -> Option<Value> {
    let Value::Array(batch) = request else {
        return answer_one(methods, &request);
    };
    if batch.is_empty() || batch.len() > MAX_BATCH {
        let why = format!("a batch of {}: expected 1 to {MAX_BATCH}", batch.len());
        return Some(RpcError::invalid(why).answer(&Value::Null));
    }
    let mut answers = Vec::new();
    let mut bytes = 0;
    for request in &batch {
        let answer = if bytes > MAX_ANSWER_BYTES {
            let why = format!("the answers to the batch take more than {MAX_ANSWER_BYTES} bytes");
            let id = request.get("id").cloned().unwrap_or_default();
            Some(RpcError::new(-32003, why).answer(&id))
        } else {
            answer_one(methods, request)
        };
        if let Some(answer) = answer {
            bytes += answer.to_string().len();
            answers.push(answer);
        }
    }
    (!answers.is_empty()).then_some(Value::Array(answers))
}

fn answer_one(methods: &mut dyn Methods, request: &Value) -> Option<Value> {
    let id = request.get("id");
    let told = id.cloned().unwrap_or_default();
    let is_id = matches!(told, Value::Null | Value::Number(_) | Value::String(_));
    let is_version = request.get("jsonrpc").is_some_and(|told| told == "2.0");
    let (Some(Value::String(method)), true) = (request.get("method"), is_id && is_version) else {
        let why = r#"expected an object with "jsonrpc": "2.0", a method, its params in a list, and an id"#;
        return Some(RpcError::invalid(why).answer(if is_id { &told } else { &Value::Null }));
    };
    let result = match request.get("params") {
        None | Some(Value::Null) => methods.call(method, &[]),
        Some(Value::Array(params)) => methods.call(method, params),
        Some(_) => Err(RpcError::params("expected params in a list")),
    };
    // A request without an id wants no answer.
    id?;
    Some(match result {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": told, "result": result }),
        Err(error) => error.answer(&told),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sums;

    impl Methods for Sums {
        fn call(&mut self, method: &str, params: &[Value]) -> Result<Value, RpcError> {
            match method {
                "sum" => Ok(params.iter().filter_map(Value::as_u64).sum::<u64>().into()),
                "long" => Ok("x".repeat(3 << 20).into()),
                _ => Err(RpcError::no_method(method)),
            }
        }
    }

    fn ask(request: Value) -> Option<Value> {
        answer(&mut Sums, request)
    }

    fn code(answer: Option<Value>) -> i64 {
        answer.expect("an answer")["error"]["code"]
            .as_i64()
            .expect("a code")
    }

    #[test]
    fn a_request_is_answered_under_its_id() {
        for id in [json!(7), json!("seven"), Value::Null] {
            let request = json!({"jsonrpc": "2.0", "id": id, "method": "sum", "params": [1, 2]});
            let expected = json!({"jsonrpc": "2.0", "id": id, "result": 3});
            assert_eq!(ask(request), Some(expected));
        }
        let no_id = json!({"jsonrpc": "2.0", "method": "sum"});
        assert_eq!(ask(no_id), None, "nobody asks");
    }

    #[test]
    fn what_is_no_request_is_told_so() {
        for (request, expected) in [
            (json!(1), -32600),
            (json!({}), -32600),
            (json!([]), -32600),
            (json!(vec![1; 101]), -32600),
            (json!({"jsonrpc": "2.0", "method": 1, "id": 1}), -32600),
            (json!({"jsonrpc": "2.0", "method": "sum", "id": {}}), -32600),
            (
                json!({"jsonrpc": "2.0", "method": "sum", "id": 1, "params": {}}),
                -32602,
            ),
            (
                json!({"jsonrpc": "2.0", "method": "product", "id": 1}),
                -32601,
            ),
        ] {
            assert_eq!(code(ask(request.clone())), expected, "{request}");
        }
    }

    #[test]
    fn a_call_of_another_version_or_of_none_is_no_request() {
        let without = json!({"method": "sum", "id": 7});
        for version in [
            None,
            Some(json!("1.0")),
            Some(json!(2.0)),
            Some(Value::Null),
        ] {
            let mut request = without.clone();
            if let Some(version) = version {
                request["jsonrpc"] = version;
            }
            let answer = ask(request.clone()).expect("an answer");
            assert_eq!(answer["error"]["code"], -32600, "{request}");
            assert_eq!(answer["id"], 7, "{request}");
        }
        // That nobody wants an answer cannot be said in it either.
        let answer = ask(json!({"method": "sum"})).expect("an answer");
        assert_eq!(
            (&answer["error"]["code"], &answer["id"]),
            (&json!(-32600), &Value::Null)
        );
        let batch = json!([without, {"jsonrpc": "2.0", "method": "sum", "id": 8}]);
        let answers = ask(batch).expect("answers");
        assert_eq!(
            (&answers[0]["error"]["code"], &answers[1]["result"]),
            (&json!(-32600), &json!(0))
        );
    }

    #[test]
    fn a_batch_is_answered_in_its_order_and_bounded() {
        let one = |id: u64| json!({"jsonrpc": "2.0", "method": "sum", "params": [id], "id": id});
        let no_id = json!({"jsonrpc": "2.0", "method": "sum"});
        let answers = ask(json!([one(1), no_id, one(2)])).expect("answers");
        assert_eq!(answers[0]["result"], 1);
        assert_eq!(answers[1]["result"], 2);
        assert_eq!(answers.as_array().map(Vec::len), Some(2));
        let long = json!({"jsonrpc": "2.0", "method": "long", "id": 1});
        let answers = ask(json!([long, long, long, long])).expect("answers");
        assert!(answers[1].get("result").is_some());
        assert_eq!(answers[2]["error"]["code"], -32003);
        assert_eq!(answers[3]["error"]["code"], -32003);
    }

    #[test]
    fn requests_come_in_pieces_and_end_to_end() {
        let text = b" {\"id\":1}\n[2]{\"id\":3}".to_vec();
        for cut in 0..text.len() {
            let mut input = Input::default();
            input.extend(&text[..cut]);
            let mut values = Vec::new();
            let mut rest = Some(&text[cut..]);
            loop {
                match input.take() {
                    Taken::Value(value) => values.push(value),
                    Taken::More => match rest.take() {
                        Some(rest) => input.extend(rest),
                        None => break,
                    },
                    Taken::Broken(answer) => panic!("{cut}: {answer}"),
                }
            }
            assert_eq!(values, [json!({"id": 1}), json!([2]), json!({"id": 3})]);
        }
    }

    #[test]
    fn what_is_no_json_is_answered() {
        for text in ["hello", "{\"id\":}", "\u{1}", "{]", "]", "\"{}\""] {
            let mut input = Input::default();
            input.extend(text.as_bytes());
            let Taken::Broken(answer) = input.take() else {
                panic!("{text}");
            };
            assert_eq!(answer["error"]["code"], -32700);
        }
        let mut deep = Input::default();
        deep.extend(&[b'['; 10_000]);
        assert_eq!(deep.take(), Taken::More);
        deep.extend(&[b']'; 10_000]);
        assert!(
            matches!(deep.take(), Taken::Broken(_)),
            "too deep to be read"
        );
    }

    #[test]
    fn brackets_in_strings_and_white_space_end_nothing() {
        let value = json!({"method": "sum", "params": ["]}\\\"}", {"a": "["}], "id": "\\"});
        let mut input = Input::default();
        input.extend(format!(" \n{value}\r\n ").as_bytes());
        assert_eq!(input.take(), Taken::Value(value));
        assert_eq!(input.take(), Taken::More);
        assert_eq!(input.len(), 0);
    }
}
