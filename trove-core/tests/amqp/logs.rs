//! The captured log of this process, at TRACE level.

use std::{
    io,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use memchr::memmem;
use tracing_subscriber::fmt;

static CAPTURED: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Captures log messages from now on.
pub fn capture() {
    static INSTALLED: LazyLock<()> = LazyLock::new(|| {
        let all = fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).with_writer(|| Writer).finish();
        tracing::subscriber::set_global_default(all).unwrap();
    });
    *INSTALLED;
}

/// Returns true if this text was logged.
pub fn contains(text: &str) -> bool {
    memmem::find(&captured(), text.as_bytes()).is_some()
}

/// Asserts that a secret was not logged, in any of its encodings.
pub fn assert_absent(name: &str, secret: &[u8]) {
    let captured = captured();
    let list = |numbers: Vec<String>, between: &str| numbers.join(between).into_bytes();
    let decimal = || secret.iter().map(u8::to_string).collect::<Vec<_>>();
    let base64 = BASE64_STANDARD.encode(secret);
    let forms = [
        secret.to_vec(),
        base64.trim_end_matches('=').as_bytes().to_vec(),
        base64.trim_end_matches('=').replace('+', "-").replace('/', "_").into_bytes(),
        secret.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes(),
        secret.iter().map(|byte| format!("{byte:02X}")).collect::<String>().into_bytes(),
        list(decimal(), ", "),
        list(decimal(), ","),
    ];
    for form in forms {
        let Some(at) = memmem::find(&captured, &form) else { continue };
        let line_start = captured[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        panic!("{name} is logged: {}…", String::from_utf8_lossy(&captured[line_start..at]));
    }
}

struct Writer;

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        captured().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn captured() -> MutexGuard<'static, Vec<u8>> {
    CAPTURED.lock().unwrap_or_else(PoisonError::into_inner)
}
