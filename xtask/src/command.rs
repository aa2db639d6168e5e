//! Running other programs: echoed before they start, limited in time, and judged by their exit
//! status.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{self, Child, ChildStdout, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::machine;
use process_tree::terminate_tree;

pub(crate) mod process_tree;

const POLL_INTERVAL: Duration = Duration::from_millis(25);
/// How long to read the output of a program that has ended, if a process that it started still
/// holds the pipe open.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Returns `cargo` with these arguments, the same cargo that runs this program.
pub(crate) fn cargo<const N: usize>(args: [&str; N]) -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())).args(args)
}

/// A program to run at the root of the repository, without standard input.
#[derive(Debug)]
pub(crate) struct Command {
    inner: process::Command,
    timeout: Duration,
    first_output_timeout: Option<Duration>,
}

/// The stream that a line of output was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Command {
    /// Runs for five minutes at most, unless [`timeout`](Self::timeout) sets another limit.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let mut inner = process::Command::new(program);
        inner.current_dir(machine::repository()).stdin(Stdio::null());
        Self { inner, timeout: Duration::from_mins(5), first_output_timeout: None }
    }

    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.inner.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.inner.env(name, value);
        self
    }

    /// Runs the program in another directory.
    pub(crate) fn directory(mut self, directory: impl AsRef<Path>) -> Self {
        self.inner.current_dir(directory);
        self
    }

    /// Terminates the program and all processes it started after this long, and fails.
    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Does the same if standard output is still empty after this long. Only for
    /// [`for_each_line`](Self::for_each_line) and
    /// [`for_each_stdout_line`](Self::for_each_stdout_line).
    pub(crate) fn first_output_timeout(mut self, timeout: Duration) -> Self {
        self.first_output_timeout = Some(timeout);
        self
    }

    /// Runs the program with its output redirected to standard error, since standard output carries
    /// only results.
    pub(crate) fn run(mut self) -> Result<()> {
        self.echo();
        self.inner.stdout(io::stderr());
        let child = self.spawn()?;
        self.supervise(child, |_, _| {})
    }

    /// Runs the program and passes each line of its standard output to `on_line`.
    pub(crate) fn for_each_stdout_line(mut self, mut on_line: impl FnMut(&str)) -> Result<()> {
        self.echo();
        self.inner.stdout(Stdio::piped());
        let child = self.spawn()?;
        self.supervise(child, |_, line| on_line(line))
    }

    /// Runs the program and passes each line of both output streams to `on_line`.
    pub(crate) fn for_each_line(mut self, on_line: impl FnMut(Stream, &str)) -> Result<()> {
        self.echo();
        self.inner.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.spawn()?;
        self.supervise(child, on_line)
    }

    /// Runs the program silently and returns its standard output. An error includes its standard
    /// error.
    pub(crate) fn output(mut self) -> Result<String> {
        self.inner.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.spawn()?;
        let (mut stdout, mut stderr) = (String::new(), String::new());
        let outcome = self.supervise(child, |stream, line| match stream {
            Stream::Stdout => stdout.push_str(line),
            Stream::Stderr => stderr.push_str(line),
        });
        match outcome {
            Ok(()) => Ok(stdout),
            Err(error) if stderr.trim().is_empty() => Err(error),
            Err(error) => Err(Error::new(format!("{error}: {}", stderr.trim()))),
        }
    }

    /// Runs the program with its standard output piped into `reader`; both must succeed.
    pub(crate) fn pipe_into(mut self, mut reader: Command) -> Result<()> {
        eprintln!("+ {} | {}", self.command_line(), reader.command_line());
        self.inner.stdout(Stdio::piped());
        let mut child = self.spawn()?;
        let pipe: Option<ChildStdout> = child.stdout.take();
        reader.inner.stdin(pipe.map_or_else(Stdio::null, Stdio::from)).stdout(io::stderr());
        let reading = reader.spawn();
        // Closes our copy of the pipe: with it open, a writer would block forever after its reader
        // died.
        reader.inner.stdin(Stdio::null());
        let written = self.supervise(child, |_, _| {});
        let read = reading.and_then(|child| reader.supervise(child, |_, _| {}));
        match (written, read) {
            (Err(first), Err(second)) => Err(Error::new(format!("{first}; {second}"))),
            (written, read) => written.and(read),
        }
    }

    /// Replaces this process by the program, which keeps the terminal and sets the exit status.
    /// Returns only on failure.
    pub(crate) fn exec(mut self) -> Result<()> {
        self.inner.stdin(Stdio::inherit());
        let error = self.inner.exec();
        Err(Error::new(format!("could not start `{}`: {error}", self.summary())))
    }

    fn echo(&self) {
        eprintln!("+ {}", self.command_line());
    }

    fn command_line(&self) -> String {
        let program = self.inner.get_program().to_string_lossy();
        let mut line = program.rsplit('/').next().unwrap_or_default().to_owned();
        for arg in self.inner.get_args().map(OsStr::to_string_lossy) {
            let plain = !arg.is_empty() && arg.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=,@{}*+".contains(c));
            line.push(' ');
            line.push_str(&if plain { arg.into_owned() } else { format!("'{arg}'") });
        }
        line
    }

    /// Returns the start of the command line, for errors.
    fn summary(&self) -> String {
        let line = self.command_line();
        let mut words = line.split(' ');
        let first: Vec<_> = words.by_ref().take(3).collect();
        first.join(" ") + if words.next().is_some() { " ..." } else { "" }
    }

    fn spawn(&mut self) -> Result<Child> {
        self.inner.spawn().map_err(|error| Error::new(format!("could not start `{}`: {error}", self.summary())))
    }

    fn supervise(&self, mut child: Child, mut on_line: impl FnMut(Stream, &str)) -> Result<()> {
        let lines = read_lines(&mut child);
        let started = Instant::now();
        let mut has_output = false;
        let mut ended: Option<(ExitStatus, Instant)> = None;
        loop {
            let received = lines.recv_timeout(POLL_INTERVAL);
            if let Ok((stream, line)) = &received {
                has_output |= *stream == Stream::Stdout;
                on_line(*stream, line);
            }
            let closed = received == Err(RecvTimeoutError::Disconnected);
            if ended.is_none() {
                ended = child.try_wait()?.map(|status| (status, Instant::now()));
            }
            if let Some((status, at)) = ended {
                let drained = closed || (received.is_err() && at.elapsed() > DRAIN_TIMEOUT);
                if drained || started.elapsed() > self.timeout {
                    return self.check(status);
                }
                continue;
            }
            let timeout = if has_output { self.timeout } else { self.first_output_timeout.unwrap_or(self.timeout) };
            if started.elapsed() > timeout {
                terminate_tree(&mut child);
                let what = if timeout == self.timeout { "did not finish" } else { "printed nothing" };
                return Err(Error::new(format!("`{}` {what} within {} s", self.summary(), timeout.as_secs())));
            }
            if closed {
                thread::sleep(POLL_INTERVAL);
            }
        }
    }

    fn check(&self, status: ExitStatus) -> Result<()> {
        match (status.success(), status.code(), status.signal()) {
            (true, ..) => Ok(()),
            (_, Some(code), _) => Err(Error::new(format!("`{}` exited with status {code}", self.summary()))),
            (_, _, signal) => {
                Err(Error::new(format!("`{}` was killed by signal {}", self.summary(), signal.unwrap_or_default())))
            }
        }
    }
}

fn read_lines(child: &mut Child) -> Receiver<(Stream, String)> {
    let (sender, lines) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        forward(Stream::Stdout, stdout, sender.clone());
    }
    if let Some(stderr) = child.stderr.take() {
        forward(Stream::Stderr, stderr, sender);
    }
    lines
}

/// Sends lines from a thread that ends with the pipe. It is not joined: a daemon that the program
/// left running holds the pipe open.
fn forward(stream: Stream, source: impl Read + Send + 'static, sender: Sender<(Stream, String)>) {
    thread::spawn(move || {
        let mut source = BufReader::new(source);
        let mut line = Vec::new();
        while source.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            if sender.send((stream, String::from_utf8_lossy(&line).into_owned())).is_err() {
                return;
            }
            line.clear();
        }
    });
}
