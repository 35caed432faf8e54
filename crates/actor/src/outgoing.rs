use procession_model::{Head, Packet, PortId};

use crate::error::{MailboxSenderError, SendErrorKind};
use crate::held::Moves;
use crate::message::Message;
use crate::process::Proc;

impl Proc {
    /// Encodes `message` and posts it under the head that `head` makes of its tag and the once
    /// ports that move with it; unless all of that succeeds these stay here.
    pub(crate) fn post_message<M: Message>(
        &self,
        message: M,
        head: impl FnOnce(String, Vec<PortId>) -> Result<Head, SendErrorKind>,
    ) -> Result<(), MailboxSenderError<M>> {
        let Some(tag) = M::TAG else {
            return Err(MailboxSenderError { message, kind: SendErrorKind::NoWireForm });
        };
        let mut moves = Moves::new();
        let sent = message.encode(&mut moves).map_err(SendErrorKind::Encode).and_then(|parts| {
            let head = head(tag.to_owned(), moves.ports())?;
            self.post(Packet { head, parts }).map_err(|(_, why)| SendErrorKind::Unreachable(why))
        });
        match sent {
            Ok(()) => {
                moves.sent();
                Ok(())
            }
            Err(kind) => {
                moves.undo();
                Err(MailboxSenderError { message, kind })
            }
        }
    }
}
