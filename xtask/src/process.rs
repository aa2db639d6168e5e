//! Running other programs: shown before they start, bounded in time, and judged by their exit status.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::{Failure, Result};
use crate::machine;
use stop::stop_tree;

mod stop;

const TICK: Duration = Duration::from_millis(25);
/// How long a finished program's output is waited for, when something it started still holds it open.
const DRAIN: Duration = Duration::from_secs(2);

/// `cargo` with these arguments, the same one that runs this program.
pub(crate) fn cargo<const N: usize>(args: [&str; N]) -> Task {
    Task::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())).args(args)
}

/// A program to run at the root of the repository, with no standard input.
#[derive(Debug)]
pub(crate) struct Task {
    command: Command,
    limit: Duration,
    first_word: Option<Duration>,
}

/// Where a line of output was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

impl Task {
    /// May run for two minutes unless [`limit`](Self::limit) says otherwise.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.current_dir(machine::root()).stdin(Stdio::null());
        Self { command, limit: Duration::from_mins(2), first_word: None }
    }

    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// After this long the program and all it started are stopped, and the task has failed.
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The same if it has printed nothing on standard output after this long. Works with [`watch`](Self::watch) and
    /// [`hear`](Self::hear).
    pub(crate) fn first_word(mut self, limit: Duration) -> Self {
        self.first_word = Some(limit);
        self
    }

    /// Runs it. What it prints goes to standard error, so that standard output stays ours.
    pub(crate) fn run(mut self) -> Result<()> {
        self.echo();
        self.command.stdout(io::stderr());
        let child = self.spawn()?;
        self.supervise(child, |_, _| {})
    }

    /// Runs it and shows each line of its standard output to `see`; standard error is passed on.
    pub(crate) fn watch(mut self, mut see: impl FnMut(&str)) -> Result<()> {
        self.echo();
        self.command.stdout(Stdio::piped());
        let child = self.spawn()?;
        self.supervise(child, |_, line| see(line))
    }

    /// Runs it and shows each line of both its outputs to `hear`.
    pub(crate) fn hear(mut self, hear: impl FnMut(Stream, &str)) -> Result<()> {
        self.echo();
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.spawn()?;
        self.supervise(child, hear)
    }

    /// Runs it without a word and returns its standard output. What it wrote to standard error ends up in the failure.
    pub(crate) fn capture(mut self) -> Result<String> {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.spawn()?;
        let (mut out, mut err) = (String::new(), String::new());
        let outcome = self.supervise(child, |stream, line| match stream {
            Stream::Out => out.push_str(line),
            Stream::Err => err.push_str(line),
        });
        match outcome {
            Ok(()) => Ok(out),
            Err(failure) if err.trim().is_empty() => Err(failure),
            Err(failure) => Err(Failure::new(format!("{failure}: {}", err.trim()))),
        }
    }

    /// Runs it with its standard output as the standard input of `reader`; both must succeed.
    pub(crate) fn pipe_into(mut self, mut reader: Task) -> Result<()> {
        eprintln!("+ {} | {}", self.shown(), reader.shown());
        self.command.stdout(Stdio::piped());
        let mut child = self.spawn()?;
        let pipe: Option<ChildStdout> = child.stdout.take();
        reader.command.stdin(pipe.map_or_else(Stdio::null, Stdio::from)).stdout(io::stderr());
        let reading = reader.spawn();
        // The reader's copy of the pipe must be the only one, or a writer whose reader died would wait for ever.
        reader.command.stdin(Stdio::null());
        let written = self.supervise(child, |_, _| {});
        let read = reading.and_then(|child| reader.supervise(child, |_, _| {}));
        match (written, read) {
            (Err(first), Err(second)) => Err(Failure::new(format!("{first}; {second}"))),
            (written, read) => written.and(read),
        }
    }

    /// Becomes the program, so that signals, the terminal and the exit status are its own. Returns only if it cannot.
    pub(crate) fn become_it(mut self) -> Result<()> {
        self.command.stdin(Stdio::inherit());
        let error = self.command.exec();
        Err(Failure::new(format!("cannot start `{}`: {error}", self.brief())))
    }

    fn echo(&self) {
        eprintln!("+ {}", self.shown());
    }

    fn shown(&self) -> String {
        let program = self.command.get_program().to_string_lossy();
        let mut shown = program.rsplit('/').next().unwrap_or_default().to_owned();
        for arg in self.command.get_args().map(OsStr::to_string_lossy) {
            let plain = !arg.is_empty() && arg.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=,@{}*+".contains(c));
            shown.push(' ');
            shown.push_str(&if plain { arg.into_owned() } else { format!("'{arg}'") });
        }
        shown
    }

    /// Enough of it to know it by; the whole was shown when it started.
    fn brief(&self) -> String {
        let shown = self.shown();
        let mut words = shown.split(' ');
        let brief: Vec<_> = words.by_ref().take(3).collect();
        brief.join(" ") + if words.next().is_some() { " ..." } else { "" }
    }

    fn spawn(&mut self) -> Result<Child> {
        self.command.spawn().map_err(|error| Failure::new(format!("cannot start `{}`: {error}", self.brief())))
    }

    fn supervise(&self, mut child: Child, mut see: impl FnMut(Stream, &str)) -> Result<()> {
        let lines = listen(&mut child);
        let started = Instant::now();
        let mut spoke = false;
        let mut ended: Option<(ExitStatus, Instant)> = None;
        loop {
            let news = lines.recv_timeout(TICK);
            if let Ok((stream, line)) = &news {
                spoke |= *stream == Stream::Out;
                see(*stream, line);
            }
            let closed = news == Err(RecvTimeoutError::Disconnected);
            if ended.is_none() {
                ended = child.try_wait()?.map(|status| (status, Instant::now()));
            }
            if let Some((status, at)) = ended {
                if closed || (news.is_err() && at.elapsed() > DRAIN) || started.elapsed() > self.limit {
                    return self.judge(status);
                }
                continue;
            }
            let limit = if spoke { self.limit } else { self.first_word.unwrap_or(self.limit) };
            if started.elapsed() > limit {
                stop_tree(&mut child);
                let verb = if limit == self.limit { "did not finish" } else { "said nothing" };
                return Err(Failure::new(format!("`{}` {verb} within {} s", self.brief(), limit.as_secs())));
            }
            if closed {
                thread::sleep(TICK);
            }
        }
    }

    fn judge(&self, status: ExitStatus) -> Result<()> {
        match (status.success(), status.code(), status.signal()) {
            (true, ..) => Ok(()),
            (_, Some(code), _) => Err(Failure::new(format!("`{}` ended with status {code}", self.brief()))),
            (_, _, signal) => {
                Err(Failure::new(format!("`{}` was ended by signal {}", self.brief(), signal.unwrap_or_default())))
            }
        }
    }
}

fn listen(child: &mut Child) -> Receiver<(Stream, String)> {
    let (sender, lines) = mpsc::channel();
    if let Some(out) = child.stdout.take() {
        forward(Stream::Out, out, sender.clone());
    }
    if let Some(err) = child.stderr.take() {
        forward(Stream::Err, err, sender);
    }
    lines
}

/// The thread ends with the pipe. It is not joined: a daemon that a program left running would hold it for ever.
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
