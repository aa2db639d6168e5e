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
//! Each instance has a random 256-bit [key](InstanceKey) of its own, which its guest and the control plane have. All that
//! is protected is protected by that key; nothing is left to the broker, to its logins or to the network.
//!
//! What is worth protecting, on the wire and in mailboxes:
//!
//! - **What is said:** passwords of users and of root, logins at image registries, other keys, names and settings.
//! - **Who says it:** commands that stop, change or remove a server; answers and reports that become an instance's state.
//! - **When:** a command that was right yesterday, or is made twice, may remove what there is today.
//!
//! | who | can | cannot |
//! |---|---|---|
//! | **The network** to the broker | all that the broker can, once it has read a login on its way | what the broker cannot |
//! | **The broker**, or its administrator | see the 79 bytes in front of each text, its length and its time; keep, lose, delay, repeat and reorder frames; invent some; take logins away | read a text; change a bit of a frame; have one heard by somebody else, in the other direction, as the answer to another call, twice, after a later one, or in another session: before or after a restart of either side, of both, or of itself |
//! | **Another guest**, with its key and its login | speak for its own instance; read its own mailbox, and write to the one that the control plane has for it | use another's: the broker refuses. Where the broker does not, its key is still another one, and it is in the place of the broker |
//! | **A stolen guest**: its machine, its key and its login | be that guest and lie about its instance; know what its control plane tells it, which is what concerns its instance and the login of its version's registry; read all that was ever said to it, where somebody kept that; answer late, to the limits of the operation that waits | speak for another instance; learn another's secrets; fill more than the mailbox that the control plane has for it, and a bounded part of the log; have texts shown or stored that are too long or hold control characters; move a decision by a time that it sent: none depends on one |
//! | **Who has only a guest's login at the broker** | hold 16 connections; fill the mailbox that the control plane has for it; while the guest is not connected take away what is for it, and keep it out by being there first | what the broker cannot |
//! | **Who has a former key**, once the new one is used | read what was sealed with it, if it was kept: see below about rotation | be heard by either side |
//! | **Who has a copy of the store** | see which identities there are | open a key without the [master key](crate::secret) |
//!
//! Nobody who sends learns why a frame was not heard: the [reason](Refusal) is counted and logged here. A header is believed
//! only once its frame has opened; until then it selects the key to try, and no more. What is refused changes nothing,
//! with one exception that is meant: whoever can repeat an old `Hello` or `Wake` to its receiver has it prepare another
//! session, which nobody but the other end can use, and in which what was under way is said anew. Repeated without end that
//! keeps new sessions from being agreed on. The broker could as well deliver nothing.
//!
//! ## What is not protected
//!
//! - **Traffic analysis.** Lengths, times and headers are in the clear: who talks to whom, how often, what is a call, an
//!   answer or a report, when a side began anew and when a key was changed. Texts are not padded.
//! - **Loss.** A missing number is not missed: what was passed over was lost, whoever lost it. That shows only as a call
//!   that ends as `Timeout` and an instance that does not report. Reports are repeated, calls too, and every operation is
//!   a row that somebody goes on with; so nothing is stuck, but whoever holds the wire decides whether anything happens.
//! - **Delay.** Within its session a frame may come late. Whether it may still have its effect is for the epoch in it to
//!   say: a guest refuses a caller that another has followed.
//! - **Logins at the broker.** There is no TLS to it: logins of guests and of the control plane, and the administrator's at
//!   the management API, are read by whoever reads the network in between. Have that be a network of its own, or a tunnel.
//! - **Yesterday.** Keys are not agreed on by Diffie-Hellman: who has an instance's key opens whatever was kept of its
//!   sessions, and can be either of its ends to the other, until it is changed.
//! - **Rotation** shuts out who has a key and no wire. The new key is sent under the old one: who has both the old key and the
//!   frame with the new one has the new one. It is for keys that may be lost one day, not for one that is.
//! - **The way of the first key.** It reaches the guest in a file that its platform writes. Who reads that, or the guest's
//!   memory, is the guest.
//! - **A machine that goes on twice.** The numbers that are used once are counted in memory. Where a process, of either side,
//!   is copied while it runs and both copies go on (a snapshot of a machine with its memory), two texts are sealed under one
//!   key and nonce, which gives both away, and the means to forge. Have the agent begin anew instead.
//! - **More than a frame allows.** A broker may hand over messages that are longer than a frame. They are refused, but they
//!   have been received: have the broker refuse them (RabbitMQ: `max_message_size` of 1 MiB).
//!
//! ## The envelope
//!
//! A frame is a header of 79 bytes, a text, and a tag of 16 bytes; 1 MiB at the most. Numbers are big endian.
//!
//! | bytes | field | |
//! |---|---|---|
//! | 0 | version | 1 |
//! | 1 | kind | 0 `Wake`, 1 `Hello`, 2 `Welcome`, 3 `Confirm`, 4 `Call`, 5 `Reply`, 6 `Cast` |
//! | 2 | direction | 0 to the guest, 1 to the control plane |
//! | 3..7 | key id | which of the instance's keys, from 1 on |
//! | 7..23 | instance | its UUID |
//! | 23..39 | sender | the number that the sender drew for the session |
//! | 39..55 | receiver | the number that the receiver drew for it; zero in `Wake` and `Hello` |
//! | 55..63 | sequence | 1 for the first frame of this key, then one more for each |
//! | 63..79 | correlation | the UUID of a call, in `Call` and `Reply`; zero in others |
//! | 79..n-16 | text | encrypted. `Wake` and `Welcome`: 16 random bytes that name this life of the guest; `Hello` and `Confirm`: nothing; others: JSON |
//! | n-16..n | tag | |
//!
//! - **Key.** 32 bytes of HKDF-SHA256; input: the instance's key; salt: `sender`, `receiver`; info: `"trove rpc 1"`, direction,
//!   key id, instance, as they are in the header. Sender and receiver draw 128 bits each from the operating system, so no two
//!   sessions and no two directions share a key, unless both draw the same again.
//! - **Cipher.** AES-256-GCM with a tag of 128 bits. Nonce: four zero bytes and the sequence. The key is used by one counter,
//!   which is never copied, and counts before it is used. Additional data: all 79 bytes.
//! - **Order.** Per session and direction only a sequence above the last one heard is heard.
//! - **Commitment.** GCM binds no ciphertext to one key. Nothing here rests on that: a frame is tried with one key, which its
//!   header names and its additional data holds.
//!
//! ## The session
//!
//! ```text
//!   guest                                          control plane
//!     |  Wake    (g1, -)                                 |    a guest without a session says so
//!     |------------------------------------------------->|
//!     |                                    Hello (c1, -) |    an offer, with a number drawn for it
//!     |<-------------------------------------------------|
//!     |  Welcome (g2, c1)                                |    taken, with a number drawn for it
//!     |------------------------------------------------->|    the session of c1 and g2 is the one
//!     |                                Confirm  (c1, g2) |    only now the guest knows that the offer was not an old one
//!     |<-------------------------------------------------|
//! ```
//!
//! Each side takes a session only once something opened under a key that its own fresh number went into: the control plane
//! by `Welcome`, the guest by the first frame after it. So each knows that the other is there now and has the key, and
//! nothing of an earlier session opens in a later one. A control plane that has a new session hears the former until
//! something comes in the new one, because what is under way is not to be lost; a guest that has taken an offer answers in the
//! former until the offer is confirmed. A call that is not answered is sent again, in whatever session stands, with the same
//! correlation; the guest answers it once.
//!
//! To change an instance's key, the guest is told the new one in a session of the old, writes it down and listens to both; the
//! control plane offers a session under the new one; with the first frame that opens in that session each drops the old one,
//! but for what is under way in its session.
//!
//! # The parts, for a reviewer
//!
//! `envelope.rs` is all of the cryptography. `session.rs` is how two ends agree on a session, without input or output. Both
//! are pure; `line.rs` and `service.rs` only carry. `play.rs` is both ends on a wire that somebody else plays with, for
//! properties and for fuzzing (`fuzz/`, see CONTRIBUTING).

#[cfg(feature = "amqp")]
mod amqp;
mod bus;
mod envelope;
mod in_process;
mod key;
mod keys;
mod line;
#[cfg(any(test, fuzzing))]
mod play;
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
#[cfg(any(test, fuzzing))]
pub(crate) use play::play;
pub use refusals::Refusals;
pub use service::{Answerer, Service, Teller};
pub use transport::{
    Address, Delivery, MAILBOX_BYTES, MAILBOX_FRAMES, MAX_FRAME_BYTES, Mailbox, Sent, Side, Transport,
};
