"""Adaptive overlap, fits as rows, evidence beside a consensus. What is there stays fixed."""

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("labeling", "0004_reason_told_with_a_lease"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="ConsensusFit",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("number", models.PositiveIntegerField()),
                ("method", models.CharField(max_length=50)),
                ("parameters", models.JSONField()),
                ("digest", models.CharField(max_length=64)),
                ("agreement", models.JSONField(default=dict)),
                ("tasks", models.PositiveIntegerField(default=0)),
                ("answers", models.PositiveIntegerField(default=0)),
                ("gold", models.PositiveIntegerField(default=0)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
        ),
        migrations.RemoveConstraint(
            model_name="skill",
            name="skill_one_per_person_and_kind",
        ),
        migrations.AddField(
            model_name="consensus",
            name="evidence",
            field=models.JSONField(default=dict),
        ),
        migrations.AddField(
            model_name="project",
            name="model_counts",
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name="project",
            name="most_answers",
            field=models.PositiveSmallIntegerField(default=5),
        ),
        migrations.AddField(
            model_name="project",
            name="overlap",
            field=models.CharField(
                choices=[("fixed", "Fixed"), ("adaptive", "Adaptive")], default="fixed", max_length=20
            ),
        ),
        migrations.AddField(
            model_name="project",
            name="target_risk",
            field=models.FloatField(default=0.15),
        ),
        migrations.AddField(
            model_name="project",
            name="trusted_from",
            field=models.FloatField(default=0.9),
        ),
        migrations.AddField(
            model_name="skill",
            name="class_accuracy",
            field=models.FloatField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="skill",
            name="details",
            field=models.JSONField(blank=True, default=dict),
        ),
        migrations.AddField(
            model_name="skill",
            name="model",
            field=models.CharField(blank=True, default="", max_length=100),
        ),
        migrations.AddField(
            model_name="skill",
            name="preferred",
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name="skill",
            name="seconds_per_image",
            field=models.FloatField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="skill",
            name="spread",
            field=models.FloatField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="skill",
            name="swap_rate",
            field=models.FloatField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="skill",
            name="visibility_accuracy",
            field=models.FloatField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="task",
            name="asked",
            field=models.PositiveSmallIntegerField(default=0),
        ),
        migrations.AlterField(
            model_name="skill",
            name="user",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="skills",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="consensusfit",
            name="created_by",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="consensusfit",
            name="project",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="fits", to="labeling.project"
            ),
        ),
        migrations.AddField(
            model_name="project",
            name="consensus_fit",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="labeling.consensusfit",
            ),
        ),
        migrations.AddField(
            model_name="skill",
            name="fit",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="skills",
                to="labeling.consensusfit",
            ),
        ),
    ]
