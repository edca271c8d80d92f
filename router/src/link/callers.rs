//! The callers of one stream: who waits for the answer to which call. A call's id says where its caller stands, so that
//! answers find them in any order without a search, and an id is never used twice.

use super::nature::Nature;
use super::shares::Lane;
use proto::wire::cell::answer;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Places that an id can name.
const PLACES: u64 = 1 << 16;

/// How a call's wait ended.
#[derive(Debug)]
pub(super) enum End {
    /// The process said something.
    Answered(answer::Kind),
    /// The link broke. Sent: it may have been carried out.
    Lost { sent: bool },
}

/// Somebody who waits.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) end: oneshot::Sender<End>,
    pub(super) lane: Lane,
    pub(super) nature: Nature,
    pub(super) since: Instant,
    /// Whether the call is in a frame.
    pub(super) sent: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Callers {
    places: Vec<Option<(u64, Caller)>>,
    free: Vec<usize>,
    last: u64,
}

impl Callers {
    /// Adds a caller. Returns the call's id. None: there is no place.
    pub(super) fn add(&mut self, caller: Caller) -> Option<u64> {
        let place = match self.free.pop() {
            Some(place) => place,
            None if (self.places.len() as u64) < PLACES => {
                self.places.push(None);
                self.places.len() - 1
            }
            None => return None,
        };
        self.last += 1;
        let id = self.last * PLACES + place as u64;
        self.places[place] = Some((id, caller));
        Some(id)
    }

    /// Who waits for the answer to a call, if they still do.
    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Caller> {
        let (known, caller) = self.places.get_mut(place(id))?.as_mut()?;
        (*known == id).then_some(caller)
    }

    /// They wait no more.
    pub(super) fn remove(&mut self, id: u64) -> Option<Caller> {
        self.get_mut(id)?;
        self.free.push(place(id));
        self.places[place(id)].take().map(|(_, caller)| caller)
    }

    /// Everybody, who wait no more. Ids go on from where they were.
    pub(super) fn take_all(&mut self) -> Vec<Caller> {
        self.free.clear();
        let places = std::mem::take(&mut self.places);
        places.into_iter().flatten().map(|(_, caller)| caller).collect()
    }
}

fn place(id: u64) -> usize {
    usize::try_from(id % PLACES).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::nature::nature;
    use super::super::shares::Shares;
    use super::*;

    fn caller() -> Caller {
        let lane = Shares::<()>::default().enter(1, 1).unwrap();
        let (end, _) = oneshot::channel();
        Caller { end, lane, nature: nature(None), since: Instant::now(), sent: false }
    }

    #[test]
    fn an_id_is_used_once_and_its_place_again() {
        let mut callers = Callers::default();
        let [one, two] = [0; 2].map(|_| callers.add(caller()).unwrap());
        assert!(callers.remove(one).is_some() && callers.remove(one).is_none());
        let three = callers.add(caller()).unwrap();
        assert_eq!(place(three), place(one), "the place is used again");
        assert!(callers.remove(one).is_none() && callers.get_mut(three).is_some());
        for stranger in [0, u64::MAX, three + 1, three + PLACES] {
            assert!(callers.remove(stranger).is_none(), "{stranger}");
        }
        assert_eq!(callers.take_all().len(), 2);
        assert!(callers.remove(two).is_none() && callers.remove(three).is_none());
        assert!(callers.add(caller()).unwrap() > three, "nor after a break");
    }

    #[test]
    fn there_are_so_many_places_and_no_more() {
        let mut callers = Callers::default();
        let added = (0..PLACES + 1).filter(|_| callers.add(caller()).is_some()).count();
        assert_eq!(added as u64, PLACES);
    }
}
