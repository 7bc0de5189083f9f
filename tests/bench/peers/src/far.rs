//! The far end of the network: a namespace of its own behind a veth pair, whose counters tell every
//! Ethernet frame in both directions, or behind a weak link. Without the right to make one it is this machine's
//! loopback.

use crate::line::{Line, Quality, device};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Segments that the stack may hand to the device in one piece. With more than one, a piece counts as
/// one frame, and the headers that a real network would see are not counted.
const WHOLE: &str = "65535";
const SINGLE: &str = "1";

/// Where the space and the second broker run.
pub(crate) struct Far {
    link: Option<Pair>,
    line: Option<Line>,
}

/// Two devices, one of them in the namespace.
struct Pair {
    namespace: String,
    near: String,
    far: String,
    octet: u32,
}

impl Far {
    /// With the reason when there is no namespace.
    pub(crate) fn make() -> (Self, Option<String>) {
        match Pair::veth() {
            Ok(link) => (Self { link: Some(link), line: None }, None),
            Err(fault) => (Self { link: None, line: None }, Some(format!("{fault:#}"))),
        }
    }

    /// Behind a weak link.
    pub(crate) fn weak(quality: Quality) -> Result<Self> {
        let (link, line) = Pair::weak(quality)?;
        Ok(Self { link: Some(link), line: Some(line) })
    }

    pub(crate) fn line(&self) -> Option<&Line> {
        self.line.as_ref()
    }

    /// Address of the far end.
    pub(crate) fn host(&self) -> String {
        match &self.link {
            Some(link) => format!("10.97.{}.2", link.octet),
            None => "127.0.0.1".to_owned(),
        }
    }

    pub(crate) fn command(&self, program: &Path) -> Command {
        let Some(link) = &self.link else { return Command::new(program) };
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &link.namespace]).arg(program);
        command
    }

    /// The same as a script, for whoever starts programs by a name in a folder.
    pub(crate) fn write_launcher(&self, folder: &Path, program: &Path) -> Result<()> {
        let name = program.file_name().context("a program has a name")?;
        let path: PathBuf = folder.join(name);
        let inside = match &self.link {
            Some(link) => format!("ip netns exec {} ", link.namespace),
            None => String::new(),
        };
        fs::write(&path, format!("#!/bin/sh\nexec {inside}{} \"$@\"\n", program.display()))?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        Ok(fs::set_permissions(&path, mode)?)
    }

    /// Whether frames are handed over one by one, as they are counted on a real network.
    pub(crate) fn set_single_frames(&self, is_single: bool) -> Result<()> {
        let Some(link) = &self.link else { return Ok(()) };
        let segments = if is_single { SINGLE } else { WHOLE };
        run(&["link", "set", "dev", &link.near, "gso_max_segs", segments])?;
        let far = ["link", "set", "dev", &link.far, "gso_max_segs", segments];
        run(&[&["-n", &link.namespace][..], &far[..]].concat())
    }

    /// Bytes of all frames so far: to the far end, and back.
    pub(crate) fn bytes(&self) -> Result<Option<(u64, u64)>> {
        let Some(link) = &self.link else { return Ok(None) };
        let count = |name: &str| -> Result<u64> {
            let path = format!("/sys/class/net/{}/statistics/{name}", link.near);
            Ok(fs::read_to_string(&path).context(path)?.trim().parse()?)
        };
        Ok(Some((count("tx_bytes")?, count("rx_bytes")?)))
    }
}

impl Pair {
    fn named(prefix: &str, octet: u32) -> Result<Self> {
        let process = std::process::id();
        let pair = Self {
            namespace: format!("{prefix}-{process}"),
            near: format!("{prefix}n{process}"),
            far: format!("{prefix}f{process}"),
            octet,
        };
        run(&["netns", "add", &pair.namespace])?;
        Ok(pair)
    }

    fn veth() -> Result<Self> {
        let pair = Self::named("gkp", std::process::id() % 125 + 1)?;
        run(&["link", "add", &pair.near, "type", "veth", "peer", "name", &pair.far])?;
        pair.set_up()?;
        Ok(pair)
    }

    fn weak(quality: Quality) -> Result<(Self, Line)> {
        let pair = Self::named("gkw", std::process::id() % 125 + 126)?;
        let (near, far) = (device(&pair.near)?, device(&pair.far)?);
        pair.set_up()?;
        Ok((pair, Line::start(&near, &far, quality)))
    }

    fn set_up(&self) -> Result<()> {
        let Self { namespace, near, far, octet } = self;
        run(&["link", "set", far, "netns", namespace])?;
        let inside = |arguments: &[&str]| run(&[&["-n", namespace.as_str()], arguments].concat());
        run(&["addr", "add", &format!("10.97.{octet}.1/30"), "dev", near])?;
        run(&["link", "set", near, "up"])?;
        inside(&["addr", "add", &format!("10.97.{octet}.2/30"), "dev", far])?;
        inside(&["link", "set", far, "up"])?;
        inside(&["link", "set", "lo", "up"])
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // The pair goes with the namespace; what cannot be undone is left to the operator.
        let _ = run(&["netns", "del", &self.namespace]);
        let _ = run(&["link", "del", &self.near]);
    }
}

fn run(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("ip cannot be started")?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("ip {}: {}", arguments.join(" "), text.trim());
    }
    Ok(())
}
