//! Postfix as the peer of `spool`: an instance of its own, from the package's programs, with its
//! configuration, its queue and its log in the bench's folder.
//!
//! Everything that decides what a mail costs is as it is by default. What is set is where it lives,
//! that it relays what comes from the loopback address to one next hop, that it holds what it takes
//! (`HOLD`), so that taking mail and delivering it are measured apart, and that it logs to a file, as
//! it does in a container.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::process::Command;

use crate::process::Process;

/// Whom its processes run as, and whose group may submit mail: accounts that every system has, as the
/// package is not installed.
const OWNER: &str = "mail";
const GROUP: &str = "daemon";

/// The folders of a queue, and their modes.
const QUEUE: [(&str, u32); 14] = [
    ("active", 0o700),
    ("bounce", 0o700),
    ("corrupt", 0o700),
    ("defer", 0o700),
    ("deferred", 0o700),
    ("flush", 0o700),
    ("hold", 0o700),
    ("incoming", 0o700),
    ("maildrop", 0o1730),
    ("pid", 0o755),
    ("private", 0o700),
    ("public", 0o710),
    ("saved", 0o700),
    ("trace", 0o700),
];

/// The services of the package's `master.cf` that mail over SMTP needs, none of them in a chroot.
const SERVICES: &str = "\
pickup    unix n - n 60    1 pickup
cleanup   unix n - n -     0 cleanup
qmgr      unix n - n 300   1 qmgr
tlsmgr    unix - - n 1000? 1 tlsmgr
rewrite   unix - - n -     - trivial-rewrite
bounce    unix - - n -     0 bounce
defer     unix - - n -     0 bounce
trace     unix - - n -     0 bounce
verify    unix - - n -     1 verify
flush     unix n - n 1000? 0 flush
proxymap  unix - - n -     - proxymap
smtp      unix - - n -     - smtp
relay     unix - - n -     - smtp
showq     unix n - n -     - showq
error     unix - - n -     - error
retry     unix - - n -     - error
discard   unix - - n -     - discard
anvil     unix - - n -     1 anvil
scache    unix - - n -     1 scache
postlog   unix-dgram n - n - 1 postlogd
";

/// How long releasing mail may take.
const RELEASE_MAX: Duration = Duration::from_secs(60);

/// A private instance of Postfix.
#[derive(Clone)]
pub(crate) struct Postfix {
    commands: PathBuf,
    daemons: PathBuf,
    libraries: String,
    folder: PathBuf,
}

impl Postfix {
    /// The instance of the programs below `root`; `None` where they are missing, or where this user
    /// must not run them: Postfix wants to be started by root.
    pub(crate) fn find(root: &Path, libraries: &str, folder: &Path) -> Option<Self> {
        let daemons = ["usr/lib/postfix/sbin", "usr/libexec/postfix", "usr/lib/postfix"];
        let daemons = daemons.map(|folder| root.join(folder));
        let daemons = daemons.into_iter().find(|folder| folder.join("master").exists())?;
        rustix::process::geteuid().is_root().then(|| Self {
            commands: root.join("usr/sbin"),
            daemons,
            libraries: libraries.to_owned(),
            folder: folder.join("postfix"),
        })
    }

    /// Begins anew with an empty queue, taking mail at `smtp` for `next_hop`.
    pub(crate) fn lay_out(&self, smtp: SocketAddr, next_hop: SocketAddr) -> anyhow::Result<()> {
        let owner = id("/etc/passwd", OWNER)?;
        let group = id("/etc/group", GROUP)?;
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder)?;
        }
        let queue = self.folder.join("queue");
        for (name, mode) in QUEUE {
            let folder = queue.join(name);
            fs::create_dir_all(&folder)?;
            // What is left to root: the locks of processes that start as root.
            let owner = if name == "pid" { None } else { Some(owner) };
            let group = ["maildrop", "public"].contains(&name).then_some(group);
            chown(&folder, owner, group)?;
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode))?;
        }
        for folder in ["data", "etc"] {
            fs::create_dir(self.folder.join(folder))?;
        }
        chown(self.folder.join("data"), Some(owner), None)?;
        // Some of its programs write to the log when they are no longer root.
        fs::write(self.log(), "")?;
        chown(self.log(), Some(owner), None)?;
        fs::write(self.configuration().join("main.cf"), self.main(next_hop))?;
        fs::write(
            self.configuration().join("master.cf"),
            format!("{smtp} inet n - n - - smtpd\n{SERVICES}"),
        )?;
        Ok(())
    }

    /// The process that starts all others, and ends them when it is asked to end.
    pub(crate) fn master(&self) -> Command {
        let mut command = self.command(&self.daemons.join("master"));
        command.arg("-c").arg(self.configuration());
        command
    }

    /// Releases what it holds, while it does not run: all of it is due when it starts.
    pub(crate) async fn release(&self) -> anyhow::Result<()> {
        let mut command = self.command(&self.commands.join("postsuper"));
        command.arg("-c").arg(self.configuration()).args(["-H", "ALL"]);
        let log = self.folder.join("postsuper.log");
        let process = Process::start(&mut command, &log)?;
        process.ended(RELEASE_MAX).await.with_context(|| format!("postsuper: see {}", log.display()))?;
        let held = fs::read_dir(self.folder.join("queue/hold"))?.count();
        ensure!(held == 0, "{held} mails are still held: see {}", log.display());
        Ok(())
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("LD_LIBRARY_PATH", &self.libraries).env("MAIL_CONFIG", self.configuration());
        command
    }

    fn configuration(&self) -> PathBuf {
        self.folder.join("etc")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("postfix.log")
    }

    fn main(&self, next_hop: SocketAddr) -> String {
        let (folder, daemons, commands) =
            (self.folder.display(), self.daemons.display(), self.commands.display());
        // Where the package is installed, it knows where its libraries are.
        let libraries = match self.libraries.split(':').next() {
            Some(folder) if Path::new(folder).is_dir() => format!("shlib_directory = {folder}\n"),
            _ => String::new(),
        };
        format!(
            "compatibility_level = 3.6\n\
             config_directory = {folder}/etc\n\
             queue_directory = {folder}/queue\n\
             data_directory = {folder}/data\n\
             daemon_directory = {daemons}\n\
             command_directory = {commands}\n\
             {libraries}\
             mail_owner = {OWNER}\n\
             setgid_group = {GROUP}\n\
             import_environment = MAIL_CONFIG LD_LIBRARY_PATH\n\
             maillog_file = {log}\n\
             maillog_file_prefixes = {folder}\n\
             inet_interfaces = 127.0.0.1\n\
             inet_protocols = ipv4\n\
             myhostname = bench.example.org\n\
             mydestination =\n\
             alias_maps =\n\
             alias_database =\n\
             mynetworks = 127.0.0.0/8\n\
             relay_domains = example.com\n\
             relayhost = [{}]:{}\n\
             smtpd_end_of_data_restrictions = check_client_access static:HOLD\n",
            next_hop.ip(),
            next_hop.port(),
            log = self.log().display(),
        )
    }
}

/// The number of a user or a group.
fn id(file: &str, name: &str) -> anyhow::Result<u32> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
    let of_name = |line: &str| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    };
    text.lines().find_map(of_name).with_context(|| format!("no {name} in {file}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_have_numbers() {
        assert_eq!(id("/etc/passwd", "root").unwrap(), 0);
        assert_eq!(id("/etc/group", "root").unwrap(), 0);
        assert!(id("/etc/passwd", "nobody-of-this-name").is_err());
    }
}
