"""Every skill belongs to a fit, and a project's parameters are those of the fit in force."""

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("labeling", "0006_first_fits"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RemoveField(
            model_name="project",
            name="consensus_parameters",
        ),
        migrations.AlterField(
            model_name="skill",
            name="fit",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="skills", to="labeling.consensusfit"
            ),
        ),
        migrations.AddConstraint(
            model_name="project",
            constraint=models.CheckConstraint(
                condition=models.Q(("overlap__in", ["fixed", "adaptive"])), name="project_overlap_known"
            ),
        ),
        migrations.AddConstraint(
            model_name="project",
            constraint=models.CheckConstraint(
                condition=models.Q(("most_answers__gte", 2), ("most_answers__lte", 50)),
                name="project_most_answers_2_to_50",
            ),
        ),
        migrations.AddConstraint(
            model_name="project",
            constraint=models.CheckConstraint(
                condition=models.Q(("target_risk__gte", 0)), name="project_target_risk_from_0"
            ),
        ),
        migrations.AddConstraint(
            model_name="project",
            constraint=models.CheckConstraint(
                condition=models.Q(("trusted_from__gte", 0), ("trusted_from__lte", 1)),
                name="project_trusted_from_0_to_1",
            ),
        ),
        migrations.AddConstraint(
            model_name="skill",
            constraint=models.UniqueConstraint(
                condition=models.Q(("user__isnull", False)),
                fields=("fit", "user", "kind"),
                name="skill_one_per_person_and_kind",
            ),
        ),
        migrations.AddConstraint(
            model_name="skill",
            constraint=models.UniqueConstraint(
                condition=models.Q(("user__isnull", True)),
                fields=("fit", "model", "kind"),
                name="skill_one_per_model_and_kind",
            ),
        ),
        migrations.AddConstraint(
            model_name="skill",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("model", ""), ("user__isnull", False)),
                    models.Q(("user__isnull", True), models.Q(("model", ""), _negated=True)),
                    _connector="OR",
                ),
                name="skill_of_a_person_or_a_model",
            ),
        ),
        migrations.AddConstraint(
            model_name="consensusfit",
            constraint=models.UniqueConstraint(fields=("project", "number"), name="fit_one_per_number"),
        ),
    ]
