//! Processes: those that run to their end, and those that end with the value that owns them.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
    thread,
    time::Duration,
};

use crate::wait::{SOON, until, until_true};

/// A running program whose output goes to files, and which is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// A program that is spoken to line by line, and which is killed when this is dropped.
#[derive(Debug)]
pub struct Dialogue {
    child: Child,
    answers: BufReader<ChildStdout>,
}

/// What a program did that ran to its end.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; -1 where a signal ended it.
    pub code: i32,
    /// What it wrote to its output.
    pub stdout: String,
    /// What it wrote to its error output.
    pub stderr: String,
}

impl Running {
    /// Starts `command`; `logs` is the folder for its output, in `NAME.out` and `NAME.err`.
    pub fn start(name: &str, mut command: Command, logs: &Path) -> Running {
        let stdout = logs.join(format!("{name}.out"));
        let stderr = logs.join(format!("{name}.err"));
        let create = |path: &Path| File::create(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        command.stdin(Stdio::null()).stdout(create(&stdout)).stderr(create(&stderr));
        let child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Running { name: name.to_owned(), child, stdout, stderr }
    }

    /// Its process ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it wrote to its output by now.
    pub fn stdout(&self) -> String {
        fs::read_to_string(&self.stdout).unwrap_or_default()
    }

    /// All that it wrote to its error output by now.
    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours can be asked")
    }

    /// Waits for a fact about it, and panics with its error output when it ends first.
    pub fn until<T>(&mut self, what: &str, fact: impl FnMut(&Running) -> Option<T>) -> T {
        self.until_within(SOON, what, fact)
    }

    /// [`Running::until`], for what may take longer.
    pub fn until_within<T>(&mut self, limit: Duration, what: &str, mut fact: impl FnMut(&Running) -> Option<T>) -> T {
        until(limit, &format!("{}: {what}", self.name), || {
            let found = fact(self);
            if found.is_none()
                && let Some(status) = self.ended()
            {
                panic!("{} ended ({status}) before this: {what}\n{}", self.name, self.stderr());
            }
            found
        })
    }

    /// Sends a signal by name, such as `HUP`.
    pub fn signal(&self, signal: &str) {
        let status = Command::new("sh").args(["-c", &format!("kill -{signal} {}", self.pid())]).status();
        assert!(status.is_ok_and(|status| status.success()), "{} takes no SIG{signal}", self.name);
    }

    /// Asks it to end (SIGTERM), and waits until it has.
    pub fn stop(&mut self) -> ExitStatus {
        if self.ended().is_none() {
            self.signal("TERM");
        }
        until(SOON, &format!("{} ends after SIGTERM", self.name), || self.ended())
    }

    /// Kills it at once (SIGKILL).
    pub fn kill(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        until_true(SOON, &format!("{} ends after SIGKILL", self.name), || self.ended().is_some());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("---- error output of {} (process {}):\n{}", self.name, self.pid(), self.stderr());
        }
        // Errors mean that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Dialogue {
    /// Starts `command`; what it writes to its error output is the test's.
    pub fn start(mut command: Command) -> Dialogue {
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = started.unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let answers = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        Dialogue { child, answers }
    }

    /// The next line that it writes; empty where it has ended.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("its output is text");
        line.trim_end().to_owned()
    }

    /// Writes it a line.
    pub fn say(&mut self, line: &str) -> &mut Dialogue {
        let mut input = self.child.stdin.as_ref().expect("its input is a pipe");
        writeln!(input, "{line}").expect("it listens");
        self
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Finished {
    /// Panics unless the exit code is 0; gives what it wrote.
    pub fn succeeded(self) -> String {
        assert!(self.code == 0, "exit code {}\n{}{}", self.code, self.stdout, self.stderr);
        self.stdout
    }
}

impl From<Output> for Finished {
    fn from(output: Output) -> Finished {
        Finished {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Whether a process is there, and has not ended unnoticed by the one that started it.
pub fn lives(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit_once(')').is_some_and(|(_, state)| !state.trim_start().starts_with('Z'))
}

/// Runs a program to its end, with nothing on its input.
pub fn run(command: &mut Command) -> Finished {
    let output = command.stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("{command:?} does not start: {error}")).into()
}
