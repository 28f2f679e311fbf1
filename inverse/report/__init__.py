"""What a recovery is shown with: comparison.png, refinement.gif, loss.png and report.html."""

from inverse.report.comparison import write_comparison
from inverse.report.loss import write_loss
from inverse.report.page import write_report
from inverse.report.refinement import write_refinement

__all__ = ["write_comparison", "write_loss", "write_refinement", "write_report"]
