//! From bytes to calls.
//!
//! serde_json reads a `RawValue` without recursion, so nothing is too deep here; each part is decoded only where it is needed.

use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::MOST;
use super::error::{Problem, short};
use super::methods::{Method, Task};

/// An `id` is at most so long, in bytes: it is kept until the call is answered.
const LONGEST_ID: usize = 1 << 10;

/// What a request comes to.
pub(super) enum Asked {
    /// One answer.
    One(Element),
    /// An array of them, for one at least.
    Batch(Vec<Element>),
}

/// What is to be answered. Small: a batch may have thousands of invalid ones, of two bytes each.
pub(super) enum Element {
    Call(Box<Call>),
    /// No request, and why; with `id` null.
    Invalid(&'static str),
    /// Neither; with `id` null.
    Refused(Box<Problem>),
}

/// A valid request.
pub(super) struct Call {
    /// As it was written.
    pub(super) id: Box<str>,
    /// `None` if there is no such method.
    pub(super) method: Option<&'static Method>,
    pub(super) task: Result<Task, Problem>,
}

/// Reads a request or a batch; `None` if nothing is to be answered.
pub(super) fn read(request: &[u8]) -> Option<Asked> {
    let refused = |problem| Some(Asked::One(Element::Refused(Box::new(problem))));
    let Ok(text) = std::str::from_utf8(request) else { return refused(Problem::NoJson) };
    if !text.trim_start_matches(WHITE).starts_with('[') {
        return match serde_json::from_str(text) {
            Ok(value) => element(value).map(Asked::One),
            Err(_) => refused(Problem::NoJson),
        };
    }
    let Some(given) = elements(text, MOST) else { return refused(Problem::NoJson) };
    match given.count {
        0 => return Some(Asked::One(Element::Invalid("the batch is empty"))),
        count if count > MOST => return refused(Problem::TooMany),
        _ => {}
    }
    let elements: Vec<Element> = given.first.into_iter().filter_map(element).collect();
    (!elements.is_empty()).then_some(Asked::Batch(elements))
}

/// JSON's, which is not Unicode's.
const WHITE: [char; 4] = [' ', '\t', '\n', '\r'];

/// What a request is answered with; `None` if it is a notification.
fn element(value: &RawValue) -> Option<Element> {
    match Members::of(value).and_then(|members| members.call()) {
        Ok(call) => call.map(|call| Element::Call(Box::new(call))),
        Err(reason) => Some(Element::Invalid(reason)),
    }
}

/// A request's members, not decoded. That one is there twice is an error, others are ignored.
#[derive(Deserialize)]
struct Members<'r> {
    #[serde(borrow, default, deserialize_with = "given")]
    jsonrpc: Option<&'r RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    method: Option<&'r RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    params: Option<&'r RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    id: Option<&'r RawValue>,
}

/// A member that is there; null is, too.
fn given<'r, D: Deserializer<'r>>(deserializer: D) -> Result<Option<&'r RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

impl<'r> Members<'r> {
    fn of(value: &'r RawValue) -> Result<Self, &'static str> {
        // A list of values in the right order would do for serde.
        if !value.get().starts_with('{') {
            return Err("it is no object");
        }
        serde_json::from_str(value.get()).map_err(|_| "a member is there twice, or its name is no Unicode text")
    }

    /// `None` if it is a notification.
    fn call(&self) -> Result<Option<Call>, &'static str> {
        let text = |member: Option<&RawValue>| member.and_then(|it| serde_json::from_str::<String>(it.get()).ok());
        if text(self.jsonrpc).is_none_or(|version| version != "2.0") {
            return Err("jsonrpc is not \"2.0\"");
        }
        let name = text(self.method).ok_or("method is no string")?;
        if self.params.is_some_and(|params| !params.get().starts_with(['[', '{'])) {
            return Err("params is neither a list nor an object");
        }
        let Some(id) = self.id.map(RawValue::get) else { return Ok(None) };
        if id.starts_with(['[', '{', 't', 'f']) {
            return Err("id is neither text nor a number nor null");
        }
        if id.len() > LONGEST_ID {
            return Err("id is longer than 1024 bytes");
        }
        let method = Method::named(&name);
        let task = match method {
            Some(method) => method.task(self.params),
            None => Err(Problem::NoSuchMethod(short(&name))),
        };
        Ok(Some(Call { id: id.into(), method, task }))
    }
}

/// What is in a list.
pub(super) struct Elements<'r> {
    /// The first ones, not decoded.
    pub(super) first: Vec<&'r RawValue>,
    /// How many there are in all.
    pub(super) count: usize,
}

/// The elements of a list, of which `most` are kept; `None` if it is no list.
pub(super) fn elements(text: &str, most: usize) -> Option<Elements<'_>> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let found = First(most).deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    Some(found)
}

struct First(usize);

impl<'de> DeserializeSeed<'de> for First {
    type Value = Elements<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for First {
    type Value = Elements<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut first = Vec::new();
        while first.len() < self.0 {
            let Some(value) = list.next_element()? else { return Ok(Elements { count: first.len(), first }) };
            first.push(value);
        }
        let mut count = first.len();
        while list.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(Elements { first, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_of_nothing_much_is_small() {
        assert!(size_of::<Element>() <= 24, "an invalid element is two bytes of the request");
    }

    #[test]
    fn elements_are_counted_to_the_end_and_kept_to_the_limit() {
        let of = |text, most| elements(text, most).map(|found| (found.first.len(), found.count));
        assert_eq!(of("[1, [2], {}]", 2), Some((2, 3)));
        assert_eq!(of("[1,2]", 2), Some((2, 2)));
        assert_eq!(of(" [ ] ", 2), Some((0, 0)));
        for bad in ["[1,2,]", "[1,2,x]", "[1,2] 3", "{}", "1", ""] {
            assert_eq!(of(bad, 2), None, "{bad}");
        }
    }
}
