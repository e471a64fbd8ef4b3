//! `oom_score_adj`: how likely the kernel is to kill a process when memory runs out.

use std::fs::File;
use std::io::{self, Read, Seek, Write};

use crate::error::{Doing, Error, Result};

/// Sets the score of the process whose `/proc/PID/oom_score_adj` is `file` (open for both), and returns what it is
/// then: one that is lower than the process may have (`CAP_SYS_RESOURCE`) leaves it where it was.
pub fn set(file: &mut File, score: i32) -> Result<i32> {
    let action = || format!("set oom_score_adj to {score}");
    if !(-1000..=1000).contains(&score) {
        return Err(Error::invalid(action(), "it is between -1000 and 1000"));
    }
    match write(file, score) {
        Ok(()) => Ok(score),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let now = read(file).doing(action)?;
            if score < now { Ok(now) } else { Err(error).doing(action) }
        }
        Err(error) => Err(error).doing(action),
    }
}

fn write(file: &mut File, score: i32) -> io::Result<()> {
    file.rewind()?;
    file.write_all(score.to_string().as_bytes())
}

fn read(file: &mut File) -> io::Result<i32> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    text.trim().parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raised_and_clamped() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let path = format!("/proc/{}/oom_score_adj", child.id());
        let mut file = File::options().read(true).write(true).open(path).expect("open");
        let before = read(&mut file).expect("read");
        assert_eq!(set(&mut file, 900).expect("set"), 900);
        let lowered = set(&mut file, -1000).expect("clamped");
        assert_eq!(lowered, read(&mut file).expect("read"));
        assert!(lowered == -1000 || lowered == 900, "{before} {lowered}");
        assert!(set(&mut file, 1001).is_err());
        child.kill().expect("kill");
        child.wait().expect("wait");
    }
}
