"""The parameters that a project has become its first fit, and its skills that fit's; and back."""

import hashlib
import json
from typing import Any

from django.db import migrations


def make_fits(apps: Any, schema_editor: Any) -> None:
    """The parameters that a project has become its first fit, and its skills that fit's."""
    project_model, fit_model, skill_model = (
        apps.get_model("labeling", name) for name in ("Project", "ConsensusFit", "Skill")
    )
    for project in project_model.objects.exclude(consensus_parameters=None).iterator():
        content = json.dumps([project.consensus_method, project.consensus_parameters], sort_keys=True)
        fit = fit_model.objects.create(
            project=project,
            number=1,
            method=project.consensus_method,
            parameters=project.consensus_parameters,
            digest=hashlib.sha256(content.encode()).hexdigest(),
        )
        skill_model.objects.filter(project=project).update(fit=fit)
        project_model.objects.filter(pk=project.pk).update(consensus_fit=fit)
    skill_model.objects.filter(fit=None).delete()  # derived: the next refit makes them again


def keep_the_fit_in_force(apps: Any, schema_editor: Any) -> None:
    project_model, skill_model = (apps.get_model("labeling", name) for name in ("Project", "Skill"))
    for project in (
        project_model.objects.exclude(consensus_fit=None).select_related("consensus_fit").iterator()
    ):
        skill_model.objects.filter(project=project).exclude(fit=project.consensus_fit).delete()
        project_model.objects.filter(pk=project.pk).update(
            consensus_parameters=project.consensus_fit.parameters
        )
    skill_model.objects.filter(project__consensus_fit=None).delete()
    skill_model.objects.filter(user=None).delete()


class Migration(migrations.Migration):
    dependencies = [("labeling", "0005_adaptive_overlap_and_fits")]

    operations = [migrations.RunPython(make_fits, keep_the_fit_in_force)]
