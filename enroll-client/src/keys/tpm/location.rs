//! Where a TPM is, and how octets get there and back.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::{fs::FileTypeExt, net::UnixStream},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use super::TpmError;

/// The kernel's TPM with its resource manager.
const DEFAULT: &str = "/dev/tpmrm0";
/// The largest answer that a TPM gives, in octets.
const LARGEST_ANSWER: usize = 4096;
const HEADER: usize = 10;
/// An RSA key may take a TPM a minute. One that is simulated, and used by others, answers later still.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where a TPM is: a character device, or a socket on which swtpm takes commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A device or a UNIX socket: its file tells which.
    Path(PathBuf),
    /// HOST:PORT of swtpm's data channel.
    Tcp(String),
}

impl Default for Location {
    fn default() -> Self {
        Location::Path(DEFAULT.into())
    }
}

impl FromStr for Location {
    type Err = TpmError;

    fn from_str(text: &str) -> Result<Self, TpmError> {
        match text.split_once(':') {
            Some(("tcp", address)) if address.contains(':') => Ok(Location::Tcp(address.to_owned())),
            _ if text.starts_with('/') => Ok(Location::Path(text.into())),
            _ => Err(TpmError::Location),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Path(path) => path.display().fmt(f),
            Location::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

/// An open way to a TPM.
pub(super) struct Link {
    channel: Channel,
    location: Location,
}

enum Channel {
    Device(File),
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Link {
    pub(super) fn open(location: &Location) -> Result<Self, TpmError> {
        let channel = Channel::open(location);
        let channel = channel.map_err(|source| TpmError::Unreachable { location: location.clone(), source })?;
        Ok(Self { channel, location: location.clone() })
    }

    /// Whether the kernel stands between us and the TPM. It shuts the TPM down in order by itself.
    pub(super) fn is_kernels(&self) -> bool {
        matches!(self.channel, Channel::Device(_))
    }

    /// Sends a command and waits for its answer.
    pub(super) fn exchange(&mut self, command: &[u8]) -> Result<Vec<u8>, TpmError> {
        let answer = self.channel.exchange(command);
        answer.map_err(|source| TpmError::Unreachable { location: self.location.clone(), source })
    }
}

impl Channel {
    fn open(location: &Location) -> io::Result<Self> {
        match location {
            Location::Path(path) if is_socket(path)? => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Ok(Channel::Unix(stream))
            }
            Location::Path(path) => Ok(Channel::Device(OpenOptions::new().read(true).write(true).open(path)?)),
            Location::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
                Ok(Channel::Tcp(stream))
            }
        }
    }

    fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            // A device takes one command in one write, and gives its answer in one read.
            Channel::Device(file) => {
                if file.write(command)? != command.len() {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                let mut answer = vec![0; LARGEST_ANSWER];
                let length = file.read(&mut answer)?;
                answer.truncate(length);
                Ok(answer)
            }
            Channel::Unix(stream) => over_stream(stream, command),
            Channel::Tcp(stream) => over_stream(stream, command),
        }
    }
}

fn is_socket(path: &Path) -> io::Result<bool> {
    Ok(std::fs::metadata(path)?.file_type().is_socket())
}

/// An answer says how long it is in octets 2 to 5.
fn over_stream(stream: &mut (impl Read + Write), command: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(command)?;
    let mut answer = vec![0; HEADER];
    stream.read_exact(&mut answer)?;
    let length = u32::from_be_bytes([answer[2], answer[3], answer[4], answer[5]]) as usize;
    if !(HEADER..=LARGEST_ANSWER).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    answer.resize(length, 0);
    stream.read_exact(&mut answer[HEADER..])?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_read_as_it_is_written() {
        for text in ["/dev/tpmrm0", "/run/swtpm/socket", "tcp:127.0.0.1:2321", "tcp:[::1]:2321"] {
            assert_eq!(text.parse::<Location>().unwrap().to_string(), text);
        }
        assert_eq!(Location::default().to_string(), "/dev/tpmrm0");
        for text in ["", "tpm0", "tcp:", "tcp:host", "udp:1:2"] {
            assert!(matches!(text.parse::<Location>(), Err(TpmError::Location)), "{text}");
        }
    }
}
