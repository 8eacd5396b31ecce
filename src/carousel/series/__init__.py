"""Series on NumPy only: calendar, panels, scaling, windows, the linear path, conformal tables."""

from carousel.series.calendar import Frequency
from carousel.series.panel import Panel

__all__ = ["Frequency", "Panel"]
