//! `etcd-killed`: etcd and the control plane are killed (SIGKILL) and stay away for five times the longest lease; then
//! they are started again. See `etcd_gone`.

use super::etcd_gone::{Gone, How, go};
use super::{DrillError, Field};

pub(super) const HYPOTHESIS: &str = "while etcd and the control plane are dead buyers buy as before, at routers that are \
     restarted meanwhile, too; afterwards everybody follows etcd again";

pub(super) async fn strike(field: &Field<'_>) -> Result<Option<Gone>, DrillError> {
    go(field, How::Killed).await
}
