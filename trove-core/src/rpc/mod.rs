//! Messages between the control plane and guests.
//!
//! A [`Transport`] carries opaque frames to [addresses](Address) and knows nothing of what is in them. [`InProcess`] is
//! the one for guests that live in this process. Each is held to one contract by `conformance::transport`.
//!
//! What a transport promises is little, because brokers restart and connections break: a frame that was
//! [sent](Transport::send) is in the mailbox, in the order of its sender, and stays there until whoever took it says that
//! it is [done](Delivery::done). It may be delivered again; whether it is genuine, new and for whom it says is decided by
//! whoever opens it.

mod envelope;
mod in_process;
mod key;
mod session;
mod transport;

pub use envelope::{MAX_TEXT_BYTES, Refusal};
pub use in_process::InProcess;
pub use key::InstanceKey;
pub use transport::{Address, Delivery, MAILBOX_FRAMES, MAX_FRAME_BYTES, Mailbox, Side, Transport};
