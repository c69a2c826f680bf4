//! A way out for a wire: a user-mode network, so that the machine's own rules and routes stay as they are.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use crate::{Error, Wire};

/// Whether hosts can reach what the machine reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Uplink {
    /// They cannot.
    #[default]
    None,
    /// They can, when a program for it is installed.
    Auto,
}

impl FromStr for Uplink {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "none" => Ok(Self::None),
            "auto" => Ok(Self::Auto),
            _ => Err(Error::Invalid { what: "uplink", value: text.to_owned(), reason: "it is neither none nor auto" }),
        }
    }
}

/// The card that the user-mode network appears as, on the wire's host.
const CARD: &str = "up0";

/// Directories in which programs are looked for.
const PROGRAMS: [&str; 4] = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin"];

impl Wire {
    /// Attaches a user-mode network to the wire's namespace. It ends with that namespace's host, whose first process
    /// it watches. Its output goes to `log/uplink.log` in the wire's directory.
    pub fn attach_uplink(&self) -> Result<(), Error> {
        let pid = self.host().pid().to_string();
        let arguments: Vec<&str>;
        let program = if let Some(program) = find("slirp4netns") {
            arguments = vec!["--configure", "--mtu=1500", "--disable-host-loopback", &pid, CARD];
            program
        } else if let Some(program) = find("pasta") {
            arguments = vec!["--config-net", "--no-map-gw", "--ns-ifname", CARD, "-t", "none", "-u", "none", &pid];
            program
        } else {
            return Err(Error::NoUplink);
        };
        let path = self.host().log("uplink");
        let log = open(&path)?;
        let child = Command::new(&program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(Error::file("open", &path))?)
            .stderr(log)
            .spawn();
        let mut child = child.map_err(Error::file("run", &program))?;
        std::thread::spawn(move || child.wait());
        Ok(())
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let candidates = PROGRAMS.iter().map(|directory| Path::new(directory).join(program));
    candidates.into_iter().find(|path| path.is_file())
}

fn open(path: &Path) -> Result<File, Error> {
    let opened = fs::OpenOptions::new().create(true).append(true).open(path);
    opened.map_err(Error::file("open", path))
}
