//! The end of a command's output.

use tokio::net::unix::pipe;

/// How much of each output stream is kept.
const KEEP: usize = 256 * 1024;

/// The last [`KEEP`] bytes of a stream, and its lines as they come.
#[derive(Default)]
pub(super) struct Tail {
    kept: Vec<u8>,
    line: Vec<u8>,
}

impl Tail {
    pub(super) async fn fill(
        &mut self,
        pipe: Option<&mut pipe::Receiver>,
        mut each: impl FnMut(&str),
    ) {
        use tokio::io::AsyncReadExt as _;
        let Some(pipe) = pipe else { return };
        let mut buffer = vec![0_u8; 8192];
        while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
            for &byte in &buffer[..n] {
                // pg_basebackup ends its progress lines with CR on a terminal.
                if byte == b'\n' || byte == b'\r' {
                    self.end_line(&mut each);
                } else if self.line.len() < 16 * 1024 {
                    self.line.push(byte);
                }
            }
            self.kept.extend_from_slice(&buffer[..n]);
            if self.kept.len() > 2 * KEEP {
                let extra = self.kept.len() - KEEP;
                self.kept.drain(..extra);
            }
        }
        self.end_line(&mut each);
    }

    fn end_line(&mut self, each: &mut impl FnMut(&str)) {
        if !self.line.is_empty() {
            each(&String::from_utf8_lossy(&self.line));
            self.line.clear();
        }
    }

    pub(super) fn text(&self) -> String {
        let from = self.kept.len().saturating_sub(KEEP);
        String::from_utf8_lossy(&self.kept[from..]).into_owned()
    }
}
