//! The demo's terminal: keys as they are pressed, a screen that is given back as it was.

use std::io::{self, IsTerminal, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use tokio::io::unix::AsyncFd;

/// What a person asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    KillReplica,
    KillController,
    Restart,
    Quit,
}

impl Key {
    fn read(byte: u8) -> Option<Self> {
        Some(match byte.to_ascii_lowercase() {
            b'k' => Self::KillReplica,
            b'c' => Self::KillController,
            b'r' => Self::Restart,
            b'q' | 0x03 | 0x04 => Self::Quit,
            _ => return None,
        })
    }
}

/// The terminal while the demo has it: no echo, no line editing, its own screen. Dropping it
/// gives it back.
pub(crate) struct Terminal {
    input: AsyncFd<BorrowedFd<'static>>,
    before: libc::termios,
}

impl Terminal {
    /// Takes the terminal. `None` where stdin or stdout is none.
    pub(crate) fn take() -> Option<Self> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return None;
        }
        let fd = io::stdin().as_raw_fd();
        let before = attributes(fd).ok()?;
        let mut raw = before;
        // Ctrl-C stays a signal.
        raw.c_lflag &= !(libc::ICANON | libc::ECHO);
        raw.c_cc[libc::VMIN] = 0;
        raw.c_cc[libc::VTIME] = 0;
        set_attributes(fd, &raw).ok()?;
        // io::Stdin lends its descriptor for no longer than itself.
        #[allow(unsafe_code)]
        // SAFETY: descriptor 0 stays open for the life of the process: nothing here closes it.
        let stdin = unsafe { BorrowedFd::borrow_raw(fd) };
        // As above.
        #[allow(unsafe_code)]
        // SAFETY: the same descriptor, open for the life of the process.
        match unsafe { AsyncFd::register_with_interest(stdin, tokio::io::Interest::READABLE) } {
            Ok(input) => {
                // The other screen, no cursor, no wrapping of long lines.
                print("\x1b[?1049h\x1b[?25l\x1b[?7l");
                Some(Self { input, before })
            }
            Err(_) => {
                let _ = set_attributes(fd, &before);
                None
            }
        }
    }

    /// Replaces what the screen shows: as many lines as it has.
    pub(crate) fn show(&self, text: &str) {
        let lines: Vec<&str> = text.lines().take(self.size().0).collect();
        print(&format!("\x1b[H{}\x1b[K\x1b[J", lines.join("\x1b[K\r\n")));
    }

    /// How many lines and columns it has; 24 and 80 where it does not say.
    pub(crate) fn size(&self) -> (usize, usize) {
        let mut size = MaybeUninit::<libc::winsize>::uninit();
        // The standard library knows no terminals.
        #[allow(unsafe_code)]
        // SAFETY: the call fills the struct or fails; it is read only where it did not fail.
        let (rows, columns) = unsafe {
            match libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, size.as_mut_ptr()) {
                0 => {
                    let size = size.assume_init();
                    (size.ws_row, size.ws_col)
                }
                _ => (0, 0),
            }
        };
        let or = |said: u16, usual| if said == 0 { usual } else { usize::from(said) };
        (or(rows, 24), or(columns, 80))
    }

    /// The next key that means something.
    pub(crate) async fn key(&self) -> Key {
        loop {
            let Ok(mut ready) = self.input.readable().await else {
                return std::future::pending().await;
            };
            let mut byte = [0_u8];
            // Unbuffered, as readiness wants it.
            #[allow(unsafe_code)]
            // SAFETY: reads at most one byte into a buffer of one.
            let read = unsafe { libc::read(0, byte.as_mut_ptr().cast(), 1) };
            if read != 1 {
                ready.clear_ready();
            } else if let Some(key) = Key::read(byte[0]) {
                return key;
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        print("\x1b[?7h\x1b[?25h\x1b[?1049l");
        let _ = set_attributes(self.input.get_ref().as_raw_fd(), &self.before);
    }
}

/// A terminal that has gone away takes nothing; the demo ends by its signal.
fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes());
    let _ = stdout.flush();
}

fn attributes(fd: i32) -> io::Result<libc::termios> {
    let mut attributes = MaybeUninit::uninit();
    // The standard library knows no terminals.
    #[allow(unsafe_code)]
    // SAFETY: tcgetattr fills the struct or fails; it is read only where it did not fail.
    unsafe {
        match libc::tcgetattr(fd, attributes.as_mut_ptr()) {
            0 => Ok(attributes.assume_init()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

fn set_attributes(fd: i32, attributes: &libc::termios) -> io::Result<()> {
    // The standard library knows no terminals.
    #[allow(unsafe_code)]
    // SAFETY: reads a whole termios.
    match unsafe { libc::tcsetattr(fd, libc::TCSANOW, attributes) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
