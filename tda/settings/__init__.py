"""Every script's constants: a dataclass for each kind of script, which are also its arguments and the text of its --help.

A file here has the name of the step in tda/steps/ that takes its settings. Nothing here imports what computes.
"""

from tda.settings.agreement_analysis import AgreementAnalysis
from tda.settings.compute_pvalues import ComputePvalues
from tda.settings.correlation_analysis import CorrelationAnalysis
from tda.settings.damping_choice import DampingChoice
from tda.settings.data_debiasing import DataDebiasing
from tda.settings.fact_tracing import FactTracing
from tda.settings.feature_attribution import FeatureAttribution
from tda.settings.folder_attribution import FolderAttribution
from tda.settings.lds_evaluation import LdsEvaluation
from tda.settings.map_truth_test import MapTruthTest
from tda.settings.metasmoothness import Metasmoothness
from tda.settings.mislabel_detection import MislabelDetection
from tda.settings.pair_removal import PairRemoval
from tda.settings.removal_evaluation import RemovalEvaluation
from tda.settings.report import Report
from tda.settings.s_test import STest
from tda.settings.score_metrics import ScoreMetrics
from tda.settings.scoring import Scoring
from tda.settings.seeds_needed import SeedsNeeded
from tda.settings.shortcut_study import ShortcutStudy
from tda.settings.show_summary import ShowSummary
from tda.settings.subset_generation import SubsetGeneration
from tda.settings.subset_retraining import SubsetRetraining
from tda.settings.text_attribution import TextAttribution
from tda.settings.top_examples import TopExamples
from tda.settings.training import AdapterTuning, LanguageTraining, LayerTuning, PairTuning, TextTuning, Training
from tda.settings.variance_components import VarianceComponents
from tda.system.command_line import run

__all__ = [
    "AgreementAnalysis",
    "ComputePvalues",
    "CorrelationAnalysis",
    "DampingChoice",
    "DataDebiasing",
    "FactTracing",
    "FeatureAttribution",
    "FolderAttribution",
    "AdapterTuning",
    "LanguageTraining",
    "LayerTuning",
    "LdsEvaluation",
    "MapTruthTest",
    "Metasmoothness",
    "MislabelDetection",
    "PairRemoval",
    "PairTuning",
    "RemovalEvaluation",
    "Report",
    "STest",
    "ScoreMetrics",
    "Scoring",
    "SeedsNeeded",
    "ShortcutStudy",
    "ShowSummary",
    "SubsetGeneration",
    "SubsetRetraining",
    "TextAttribution",
    "TextTuning",
    "TopExamples",
    "Training",
    "VarianceComponents",
    "run",
]
