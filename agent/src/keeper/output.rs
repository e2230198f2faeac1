//! Output of containers: from their pipes into their logs, a bounded piece at a time.

use super::complain;
use super::event_loop::{Keeper, wall_ms};

/// Taken from one output in one turn, so that a flood slows nobody else.
pub(super) const READ_BYTES: usize = 16 * 1024;
/// Reads of one output after its container ended: four times what a pipe holds. Whoever still
/// writes then is no part of the container.
const LAST_READS: usize = 16;

/// What one read found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    Something,
    NothingYet,
    End,
}

impl Keeper {
    /// Takes what an output of a container has.
    pub(super) fn read_output(&mut self, place: usize, which: usize) {
        if self.read_once(place, which) == Read::End {
            self.close_output(place, which);
        }
    }

    /// Takes what is left in the outputs of a container that ended, and closes them.
    pub(super) fn drain_outputs(&mut self, place: usize) {
        for which in 0..2 {
            for _ in 0..LAST_READS {
                if self.read_once(place, which) != Read::Something {
                    break;
                }
            }
            self.close_output(place, which);
        }
    }

    fn read_once(&mut self, place: usize, which: usize) -> Read {
        let mut buffer = std::mem::take(&mut self.read_buffer);
        let found = self.read_into(place, which, &mut buffer);
        self.read_buffer = buffer;
        found
    }

    fn read_into(&mut self, place: usize, which: usize, buffer: &mut [u8]) -> Read {
        let Some(Some(container)) = self.containers.get_mut(place) else { return Read::End };
        let Some(stream) = container.streams.get_mut(which) else { return Read::End };
        let Some(pipe) = &stream.pipe else { return Read::End };
        let count = match rustix::io::read(pipe, &mut *buffer) {
            // A terminal that nobody has open any more says EIO.
            Ok(0) | Err(rustix::io::Errno::IO) => return Read::End,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Read::NothingYet,
            Err(error) => {
                complain(&format!("read the output of {}: {error}", container.id));
                return Read::End;
            }
            Ok(count) => count,
        };
        self.line_buffer.clear();
        stream.framer.frame(wall_ms(), stream.output, &buffer[..count], &mut self.line_buffer);
        if let Err(error) = container.log.append(&self.line_buffer) {
            complain(&format!("write the log of {}: {error}", container.id));
        }
        Read::Something
    }

    /// Writes down what is not a whole line yet: another program goes on.
    pub(super) fn flush_partial_lines(&mut self, place: usize) {
        let Some(Some(container)) = self.containers.get_mut(place) else { return };
        self.line_buffer.clear();
        for stream in &mut container.streams {
            stream.framer.finish(wall_ms(), stream.output, &mut self.line_buffer);
        }
        if let Err(error) = container.log.append(&self.line_buffer) {
            complain(&format!("write the log of {}: {error}", container.id));
        }
    }

    fn close_output(&mut self, place: usize, which: usize) {
        let Some(Some(container)) = self.containers.get_mut(place) else { return };
        let Some(stream) = container.streams.get_mut(which) else { return };
        if stream.pipe.take().is_none() {
            return;
        }
        self.line_buffer.clear();
        stream.framer.finish(wall_ms(), stream.output, &mut self.line_buffer);
        if let Err(error) = container.log.append(&self.line_buffer) {
            complain(&format!("write the log of {}: {error}", container.id));
        }
    }
}
