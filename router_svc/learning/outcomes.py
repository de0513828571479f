"""Takes reports of outcomes, with a record and without."""

from router_svc.catalogue.holder import CatalogueHolder
from router_svc.learning.journal import DecisionJournal
from router_svc.learning.metrics import LearningMetrics
from router_svc.learning.ports import LearningStore
from router_svc.learning.records import Report
from stepwire.errors import Reason, StepwireError, field_invalid


class OutcomeReports:
    """A `Reports` that keeps what callers say of answers.

    Args:
        store: Where it is kept.
        journal: May have a decision that is not written yet.
        holder: Knows which models there are.
        metrics: Counts reports.
    """

    def __init__(
        self,
        store: LearningStore,
        journal: DecisionJournal,
        holder: CatalogueHolder,
        metrics: LearningMetrics,
    ) -> None:
        self._store = store
        self._journal = journal
        self._holder = holder
        self._metrics = metrics

    async def report(self, report: Report) -> None:
        """See `Reports`."""
        alternative = report.chosen_alternative
        if alternative and self._holder.catalogue.find(alternative) is None:
            raise field_invalid("chosen_alternative", "is no model of the catalogue")
        # A caller that is quick comes before the journal.
        await self._journal.flush()
        if not await self._store.report(report):
            raise _unknown(report)
        self._metrics.reported()


class NoReports:
    """A `Reports` without a record: no decision is known."""

    async def report(self, report: Report) -> None:
        """See `Reports`."""
        raise _unknown(report)


def _unknown(report: Report) -> StepwireError:
    return StepwireError(
        Reason.DECISION_NOT_FOUND,
        f"no decision {report.decision_id} is known; those of long ago are forgotten",
        metadata={"decision_id": str(report.decision_id)},
    )
