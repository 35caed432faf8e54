//! Groups that an earlier host has begun.

use std::sync::Arc;
use std::time::Duration;

use procession_launch::ProcLauncher;
use procession_model::{InvalidArgument, ProcId};
use procession_supervise::{ActorsAfter, GroupState, RestartPolicy};

use super::{Afterwards, Group, add, locked, seed, unlaunched};
use crate::core::Core;
use crate::ledger::{At, Launch, PastGroup, PastSlot};
use crate::observers::Audience;
use crate::place::Place;
use crate::proc_ref::ProcRef;

impl Group {
    /// Goes on with what an earlier host has begun.
    pub(crate) fn resume(
        core: &Arc<Core>,
        id: u64,
        past: PastGroup,
        launcher: &Arc<dyn ProcLauncher>,
    ) -> Result<Arc<Self>, InvalidArgument> {
        // How the actors were made was known to that host alone.
        let policy = RestartPolicy { actors: ActorsAfter::Fail, ..past.restart };
        let (mut inputs, mut places, mut standings) = (Vec::new(), Vec::new(), Vec::new());
        for (slot, PastSlot { mut spec, launch, fate }) in past.slots.into_iter().enumerate() {
            spec.at = Some(At { group: id, slot });
            let audience = Arc::new(Audience::new(true));
            standings.push((!matches!(launch, Launch::Ended(_)), fate));
            let id = match launch {
                Launch::Ended(exit) => {
                    let exit = Arc::new(*exit);
                    core.expect_incarnation(&spec.name, exit.incarnation + 1);
                    let current =
                        ProcRef::ended_before(core, &exit, &spec, launcher.as_ref(), Arc::clone(&audience));
                    places.push(Place::new(spec, launcher, audience, current, Some(exit)));
                    continue;
                }
                Launch::Open(open) => {
                    core.expect_incarnation(&spec.name, open.asked.incarnation);
                    let id = open.asked.proc_id.clone();
                    spec.adopted = Some(open);
                    Ok(id)
                }
                Launch::None => ProcId::fresh(&spec.name, &core.id),
            };
            let added = id.and_then(|id| add(core, id, &spec, false, launcher.as_ref(), &audience));
            let (current, own) = added.inspect_err(|_| unlaunched(core, &places))?;
            inputs.push((slot, own));
            places.push(Place::new(spec, launcher, audience, current, None));
        }
        let (state, effects) = GroupState::resume(policy.clone(), &standings, seed(), Duration::ZERO);
        let all = 0..places.len();
        let group = Self::begin(core, policy, state, places, inputs);
        {
            let mut after = Afterwards { told: all.clone().collect(), ..Afterwards::default() };
            let mut state = locked(&group.state);
            group.prepare_for(&state, &effects, all.clone());
            group.carry_out(&mut state, effects, &mut after);
            all.for_each(|index| group.tell_settled(index));
            drop(state);
            group.finish(after);
        }
        Ok(group)
    }
}
