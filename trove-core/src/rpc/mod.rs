//! Messages between the control plane and guests: sealed, in order, once.
//!
//! ```text
//!   control plane                                                             guest
//!     Line   --call, repeated until it is answered-->   Transport   -->   Service -> Answerer, once
//!     Listener  <------------------------------------   Transport   <--   Teller: what is told unasked
//! ```
//!
//! A [`Transport`] carries opaque frames to [addresses](Address) and knows nothing of what is in them. [`InProcess`] is
//! the one for guests that live in this process, `Amqp` (feature `amqp`) the one for those that live elsewhere, over
//! RabbitMQ. Each is held to one contract by `conformance::transport`, which promises little, because brokers restart and
//! connections break.
//!
//! A [`Line`] and a [`Service`] make of it what is relied on: a frame is heard by whom it is meant for, from whom it says,
//! once. Everything else is dropped, counted by its [reason](Refusal) and logged without its content.
//!
//! # Threat model
//!
//! Each instance has a random [key](InstanceKey) of its own, which its guest and the control plane have. Assumed is
//! somebody who has everything else: reads the whole wire and keeps it, is the broker, is another guest with its key, and
//! sends what they like, when and as often as they like.
//!
//! | they | and then |
//! |---|---|
//! | read the wire | see who talks to whom, when and how much, and nothing else |
//! | change a bit, or any byte before the text | the frame does not open: all of it is authenticated |
//! | send plaintext, or what is no frame | dropped: there is no other form than the sealed one |
//! | speak for another instance | the key is that instance's, and its id is in the subkey and in what is authenticated |
//! | send a frame back, or to the other side | each direction has a key of its own |
//! | send a frame again, or before an earlier one | the number of a frame has to be above the last; what was passed over is not taken later |
//! | keep frames until either side is restarted | each session's keys come from a number that each side draws for it |
//! | send an old `Wake` or `Hello` again | leads to an answer that nobody can use, or to another session of the same two; calls wait for that, and none is heard of anybody else |
//! | answer another's call | the answer names the call, and only the session's own guest can seal one |
//! | send a time in the far future | no decision depends on a time that was sent |
//! | send too much | frames, mailboxes, calls and what is remembered of them are bounded; each guest has mailboxes of its own |
//! | lose or hold back frames | nothing is heard, which shows: calls end as `Timeout`, the instance is not reporting. Held back within a session, a frame is heard late; what it may still do then is for the epoch in it to say |
//!
//! Not covered: who steals an instance's key is that guest, or its control plane, from then on, and can read what was kept
//! of its sessions. Numbers and lengths are not hidden.
//!
//! # The parts, for a reviewer
//!
//! `envelope.rs` is all of the cryptography: the layout of a frame, its key, its nonce, what is authenticated. `session.rs`
//! is how two ends agree on a session, without input or output. Both are pure; `line.rs` and `service.rs` only carry.

#[cfg(feature = "amqp")]
mod amqp;
mod bus;
mod envelope;
mod in_process;
mod key;
mod keys;
mod line;
mod refusals;
mod service;
mod session;
#[cfg(test)]
mod tests;
mod transport;

#[cfg(feature = "amqp")]
pub use amqp::{Amqp, Broker, Login, Management, RabbitMq};
pub use bus::{Access, Bus, BusLogin, Entrance};
pub use envelope::{MAX_TEXT_BYTES, Refusal};
pub use in_process::InProcess;
pub use key::InstanceKey;
pub use keys::Keys;
pub use line::{Line, Listener, Repeat};
pub use refusals::Refusals;
pub use service::{Answerer, Service, Teller};
pub use transport::{
    Address, Delivery, MAILBOX_BYTES, MAILBOX_FRAMES, MAX_FRAME_BYTES, Mailbox, Sent, Side, Transport,
};
