//! `vervet ssh`.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, bail};
use clap::Args;

use crate::image::{Access, MachineName, Store};

/// The exit code when the machine cannot be reached, as ssh has it.
const UNREACHABLE: u8 = 255;

#[derive(Debug, Args)]
pub struct Ssh {
    /// The name that `vervet run` gave the machine
    #[arg(long, value_name = "NAME", default_value_t)]
    name: MachineName,

    /// A command to run in the guest, and its arguments; without one, a login shell
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Ssh {
    pub fn execute(self) -> anyhow::Result<u8> {
        let Some(access) = Store::open()?.access(&self.name) else {
            bail!("no machine {} runs that could be reached: `vervet run debian --name {0}` starts it", self.name);
        };
        let status = Command::new("ssh").args(arguments(&access)).args(&self.command).status();
        let status = status.context("the host's SSH client `ssh` cannot be started: install OpenSSH's client")?;
        Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(UNREACHABLE))
    }
}

/// What the client is told before the command. The machine's host key is learned at the first connection, which does not
/// leave this host, and has to be the same ever after.
fn arguments(access: &Access) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut option = |text: String| arguments.extend(["-o".into(), OsString::from(text)]);
    option("StrictHostKeyChecking=accept-new".into());
    option("HostKeyAlias=vervet".into());
    option("LogLevel=ERROR".into());
    let quoted = |path: &std::path::Path| format!("\"{}\"", path.display());
    option(format!("UserKnownHostsFile={}", quoted(&access.known_hosts)));
    if let Some(identity) = &access.identity {
        option("IdentitiesOnly=yes".into());
        option(format!("IdentityFile={}", quoted(identity)));
    }
    let rest = ["-p".into(), access.port.to_string(), "-l".into(), access.user.as_str().to_owned(), "127.0.0.1".into()];
    arguments.extend(rest.into_iter().map(OsString::from));
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::UserName;

    #[test]
    fn the_client_is_told_port_user_and_key() {
        let mut access = Access {
            port: 2222,
            user: UserName::new("me").unwrap(),
            identity: Some("/a key".into()),
            known_hosts: "/known".into(),
        };
        let text = |access: &Access| arguments(access).join(&OsString::from(" ")).into_string().unwrap();
        let told = text(&access);
        assert!(told.ends_with(" -p 2222 -l me 127.0.0.1"), "{told}");
        assert!(told.contains("-o IdentityFile=\"/a key\"") && told.contains("-o UserKnownHostsFile=\"/known\""));
        access.identity = None;
        assert!(!text(&access).contains("Identit"));
    }
}
