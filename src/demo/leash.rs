//! A child process that cannot outlive us: it ends when this process ends, however that happens.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

/// A running child on a leash. Dropping it kills the child.
#[derive(Debug)]
pub struct Leashed {
    child: Child,
    /// Waits for the end of its input, which comes when we drop the other end or die holding it.
    holder: Child,
    end: Option<ChildStdin>,
}

/// `$1` is the child's process id.
const HOLDER: &str = "trap '' INT TERM HUP; cat >/dev/null; kill -9 \"$1\" 2>/dev/null";

impl Leashed {
    /// Starts the command in a process group of its own, so that the terminal's Ctrl-C reaches only us.
    ///
    /// # Errors
    /// The program or `sh` cannot be started.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut child = command.process_group(0).stdin(Stdio::null()).spawn()?;
        let mut holder = Command::new("sh");
        holder.args(["-c", HOLDER, "sh", &child.id().to_string()]).process_group(0);
        holder.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        match holder.spawn() {
            Ok(mut holder) => {
                let end = holder.stdin.take();
                Ok(Self { child, holder, end })
            }
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let _ = Command::new("sh").args(["-c", "kill -\"$1\" \"$2\"", "sh", name, &id]).status();
    }

    /// kill -9, and waits.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Leashed {
    fn drop(&mut self) {
        self.kill();
        // The holder's kill finds nobody: the child was waited for, and its id is not reused within milliseconds.
        drop(self.end.take());
        let _ = self.holder.wait();
    }
}
