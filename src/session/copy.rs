//! COPY both ways (stub while wire::copy lands).
use super::{Close, Context, Session};
#[derive(Debug)]
pub(super) enum Copying {
    None,
    In,
}
impl Copying {
    pub(super) fn inbound(&self) -> bool {
        matches!(self, Copying::In)
    }
    pub(super) fn ended(&mut self) {
        *self = Copying::None;
    }
}
impl Session {
    pub(super) fn copy_data(&mut self, _b: &[u8], _cx: &mut Context<'_>) {}
    pub(super) fn copy_end(&mut self, _b: &[u8], _cx: &mut Context<'_>) {}
    pub(super) fn copy_begins(&mut self, _m: &[u8], _b: &[u8], _cx: &mut Context<'_>) -> Result<(), Close> {
        Ok(())
    }
    pub(super) fn copy_row(&mut self, _m: &[u8], _b: &[u8], _cx: &mut Context<'_>) -> Result<(), Close> {
        Ok(())
    }
}
